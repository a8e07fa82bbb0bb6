"""The laws that every registered schedule keeps, whatever its settings."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit import schedules
from dlkit.diffusion.parameterization import TARGETS
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.part import from_spec
from dlkit.schedules._base import CappedSchedule, DiscreteSchedule
from dlkit.schedules._table import TableSchedule
from schedules.every import NAMES, SETTINGS, at, has_corner, schedule

every = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=25)
INSIDE = st.floats(1e-3, 1.0 - 1e-3)


def test_all_of_them_have_settings_drawn() -> None:
    assert set(SETTINGS) == set(NAMES)


@every
@few
@given(data=st.data(), times=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(sorted))
def test_alpha_falls_and_sigma_rises(name: str, data: st.DataObject, times: list[float]) -> None:
    part = data.draw(schedule(name))
    alpha, sigma = part.alpha(at(*times)), part.sigma(at(*times))
    assert (alpha[1] <= alpha[0] * (1 + 1e-15)).all()
    assert (sigma[1] >= sigma[0] * (1 - 1e-15)).all()


@every
@few
@given(data=st.data(), times=st.tuples(st.floats(1e-4, 1.0), st.floats(1e-4, 1.0)).map(sorted))
def test_log_snr_falls_strictly(name: str, data: st.DataObject, times: list[float]) -> None:
    assume(times[1] - times[0] > 1e-5)
    first, second = data.draw(schedule(name)).log_snr(at(*times))
    assert (second < first).all()


@every
@few
@given(data=st.data(), t=INSIDE)
def test_log_snr_is_that_of_alpha_and_sigma(name: str, data: st.DataObject, t: float) -> None:
    part = data.draw(schedule(name))
    assert_close(part.log_snr(at(t)), 2 * (part.alpha(at(t)) / part.sigma(at(t))).log(), rtol=1e-9, atol=1e-9)


@every
@few
@given(data=st.data(), t=INSIDE)
def test_derivatives_are_autograds(name: str, data: st.DataObject, t: float) -> None:
    part = data.draw(schedule(name))
    assume(not has_corner(part, t))
    for function, derivative in (
        (part.alpha, part.d_alpha),
        (part.sigma, part.d_sigma),
        (part.log_snr, part.d_log_snr),
    ):
        wanted = torch.autograd.functional.jacobian(lambda u, f=function: f(u) + 0 * u.sum(), at(t))
        assert_close(derivative(at(t)), wanted[..., 0], rtol=1e-8, atol=1e-14)


@every
@few
@given(data=st.data(), t=st.floats(1e-3, 1.0))
def test_back_from_log_snr(name: str, data: st.DataObject, t: float) -> None:
    part = data.draw(schedule(name))
    back = part.inverse(part.log_snr(at(t)))
    assert_close(back, torch.full_like(back, t), rtol=1e-9, atol=1e-10)


def end_of_capped(part: CappedSchedule) -> Tensor:
    return part.alpha_bar(at(1.0 - 1.0 / part.steps)) * 1e-3


ENDS: dict[str, Callable[[Any], Any]] = {
    "sqrt": end_of_capped,
    "cosine": end_of_capped,
    **dict.fromkeys(("linear", "pw_lin", "trunc_lin", "trunc_cos"), lambda part: (1 - part.betas()).prod()[None]),
    "log_linear": lambda part: at(part.eps),
    "per_position": lambda part: at(*part.table[-1])[None],
    "learned_gamma": lambda part: torch.sigmoid(at(-part.gamma_1)),
    **dict.fromkeys(("tan", "trig", "rectified_flow", "token_accuracy"), lambda part: at(0.0)),
}
"""alpha^2 at t = 1 of those that end with sigma^2 = 1 - alpha^2; the others end with alpha = 1 and sigma_max."""
STEEP = {"token_accuracy": 0.01}
"""How far from clean text a schedule is 1e-13 from the end, where that is more than a little."""


@every
@few
@given(data=st.data())
def test_the_limits_at_both_ends(name: str, data: st.DataObject) -> None:
    part: Any = data.draw(schedule(name))
    for t, width in ((0.0, 1e-7), (1e-13, STEEP.get(name, 1e-4))):
        assert_close(part.alpha(at(t)), torch.ones_like(part.alpha(at(t))), rtol=0, atol=width)
        assert_close(part.sigma(at(t)), torch.zeros_like(part.sigma(at(t))), rtol=0, atol=width)
    assert (part.log_snr(at(0.0)) == math.inf).all()
    alpha_bar = ENDS[name](part) if name in ENDS else at(1.0)
    sigma = (1 - alpha_bar).sqrt() if name in ENDS else at(part.sigma_max)
    assert_close(part.alpha(at(1.0)), alpha_bar.sqrt(), rtol=1e-9, atol=1e-15)
    assert_close(part.sigma(at(1.0)), sigma, rtol=1e-12, atol=1e-12)
    assert_close(part.log_snr(at(1.0)), 2 * (alpha_bar.sqrt() / sigma).log(), rtol=1e-9, atol=1e-9)


@every
@few
@given(data=st.data())
def test_grids(name: str, data: st.DataObject) -> None:
    """Both go down from 1 to t_min; a discrete schedule's are among its steps, and its longest grid is all of them."""
    part = data.draw(schedule(name))
    most = part.steps if isinstance(part, DiscreteSchedule) else 300
    calls = data.draw(st.integers(1, most))
    for grid in (part.grid(calls), part.even(calls)):
        assert (len(grid), grid[0]) == (calls, 1.0)
        assert calls == 1 or grid[-1] == part.t_min
        assert all(a > b for a, b in pairwise(grid))
    if isinstance(part, DiscreteSchedule):
        every_step = [(part.steps - k) / part.steps for k in range(part.steps)]
        assert set(part.grid(calls)) | set(part.even(calls)) <= set(every_step)
        assert part.grid(most) == part.even(most) == every_step


@every
@few
@given(data=st.data())
def test_a_grid_is_part_of_the_one_of_twice_as_many_steps(name: str, data: st.DataObject) -> None:
    """Whether 2k divides T or not."""
    part = data.draw(schedule(name))
    most = part.steps if isinstance(part, DiscreteSchedule) else 600
    calls = data.draw(st.integers(1, most // 2))
    assert set(part.grid(calls)) <= set(part.grid(2 * calls))


def test_an_even_grid_is_not() -> None:
    """Why there are two kinds: times that include both ends of T - 1 equal gaps do not halve."""
    part = from_spec(schedules.registry, "sqrt")
    assert not set(part.even(4)) <= set(part.even(8))


@every
def test_no_grid_of_no_steps(name: str) -> None:
    part = from_spec(schedules.registry, {"name": name, **schedules.get(name).trial})
    for grid in (part.grid, part.even):
        with pytest.raises(ValueError, match="steps must be"):
            grid(0)


@every
@few
@given(data=st.data(), u=st.floats(0.0, 1.0, exclude_max=True))
def test_uniforms_become_times_of_training(name: str, data: st.DataObject, u: float) -> None:
    part = data.draw(schedule(name))
    t = float(part.between(at(u), part.t_min, 1.0))
    assert part.t_min <= t <= 1.0
    assert float(part.between(at(0.0), part.t_min, 1.0)) == part.t_min


def everything(process: GaussianProcess, device: str) -> list[Tensor]:
    """What is computed of times in training and sampling."""
    part = process.noise_schedule
    shape = (3, part.positions or 5, 2)
    x0, eps = (torch.linspace(-k, k, math.prod(shape), device=device).reshape(shape) for k in (1, 2))
    t = torch.linspace(0.3, 0.9, 3, dtype=torch.float64, device=device)
    names = ("alpha", "sigma", "d_alpha", "d_sigma", "log_snr", "d_log_snr", "network_time")
    x_t = process.q_sample(x0, t, eps)
    posterior = process.posterior(x_t, x0, t, t / 2)
    return [
        *(getattr(part, each)(t) for each in names),
        part.inverse(part.log_snr(t)),
        part.between(t, 0.25, 0.75),
        x_t,
        process.ddim(x_t, x0, t, t / 2),
        *(process.prior(eps), process.prior(eps, 0.5), process.network_input(x_t, t)),
        *(posterior.mean, posterior.std, posterior.std_large),
        *(process.convert(x0, x_t, t, source, to) for source, to in pairwise((*TARGETS, TARGETS[0]))),  # each both ways
    ]


def tried(name: str) -> GaussianProcess:
    return GaussianProcess.model_validate({"schedule": {"name": name, **schedules.get(name).trial}})


@every
def test_nothing_looks_at_a_value(name: str) -> None:
    """Tensors without values go through, for which waiting for one is an error; results stay on the device."""
    process = tried(name)
    assert all(value.is_meta for value in everything(process, "meta"))


SLOW = {"token_accuracy": pytest.mark.slow}  # Newton's method is unrolled wherever alpha or sigma is asked for


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in NAMES])
@pytest.mark.compile
def test_compiles_into_one_graph(name: str) -> None:
    process = tried(name)
    torch.compiler.reset()
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(process, "cpu"), everything(process, "cpu"), strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.compile
@pytest.mark.parametrize("name", ["linear", "per_position"])
def test_a_table_that_is_not_on_the_device_yet_compiles_too(name: str) -> None:
    process = tried(name)
    torch.compiler.reset()
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    assert all(value.is_meta for value in compiled(process, "meta"))


def test_a_table_is_copied_once_to_a_device() -> None:
    part = from_spec(schedules.registry, "linear")
    assert isinstance(part, TableSchedule)
    meta = torch.device("meta")
    assert part._alpha_bars.on(meta) is part._alpha_bars.on(meta)
