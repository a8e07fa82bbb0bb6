"""Schedules against the discrete definition they extend, and the laws of a schedule."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit import schedules
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.schedules._base import CappedSchedule, DiscreteSchedule
from dlkit.schedules._table import TableSchedule
from dlkit.schedules.cosine import CosineSchedule
from dlkit.schedules.linear import LinearSchedule
from dlkit.schedules.pw_lin import PwLinSchedule
from dlkit.schedules.sqrt import SqrtSchedule
from dlkit.schedules.trunc_cos import TruncCosSchedule
from dlkit.schedules.trunc_lin import TruncLinSchedule

CAPPED = [SqrtSchedule, CosineSchedule]
TABLES = [LinearSchedule, TruncLinSchedule, PwLinSchedule, TruncCosSchedule]
ALL = [*CAPPED, *TABLES]
DEFINITIONS: dict[type, Callable[[float], float]] = {
    SqrtSchedule: lambda u: 1 - math.sqrt(u + 1e-4),
    CosineSchedule: lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2,
}
FIRST_AND_LAST_BETA = {  # of 2000 steps
    LinearSchedule: (5e-5, 0.01),
    TruncLinSchedule: (0.01005, 0.02),
    PwLinSchedule: (0.01005, 0.01),
    TruncCosSchedule: (math.sin(0.05 / 1.1 * math.pi) ** 2, 0.75),
}
few = settings(max_examples=40)
TIMES = st.floats(1e-4, 1.0)


def table(kind: type, steps: int) -> Tensor:
    """alpha_bar_i = prod (1 - beta_j), beta_i = min(1 - f((i + 1) / T) / f(i / T), .999)."""
    f = DEFINITIONS[kind]
    betas = [min(1 - f((i + 1) / steps) / f(i / steps), 0.999) for i in range(steps)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)


def at(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("kind", CAPPED)
@pytest.mark.parametrize("steps", [2, 3, 20, 100, 2000, 5000])
def test_agrees_with_the_discrete_definition(kind: type[CappedSchedule], steps: int) -> None:
    schedule = kind(steps=steps)
    t = schedule.time_of(torch.arange(steps))
    assert_close(schedule.alpha_bar(t), table(kind, steps), rtol=1e-12, atol=1e-12)
    assert float(schedule.alpha_bar(at(1.0)) / schedule.alpha_bar(at(1 - 1 / steps))) == pytest.approx(1e-3, rel=1e-9)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("steps", [21, 50, 2000])
def test_agrees_with_its_betas(kind: type[TableSchedule], steps: int) -> None:
    schedule = kind(steps=steps)
    t = schedule.time_of(torch.arange(steps))
    step = schedule.alpha_bar(t) / schedule.alpha_bar(t - 1 / steps)
    assert_close(1 - step, schedule.betas(), rtol=1e-10, atol=1e-12)
    assert 0 < float(schedule.betas().min()) <= float(schedule.betas().max()) < 1
    halfway = (t - 0.5 / steps).clamp(0, 1)
    middle = (schedule.alpha_bar(t) + schedule.alpha_bar(t - 1 / steps)) / 2
    assert_close(schedule.alpha_bar(halfway), middle, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("kind", "ends"), FIRST_AND_LAST_BETA.items())
def test_known_betas(kind: type[TableSchedule], ends: tuple[float, float]) -> None:
    betas = kind().betas()
    assert (float(betas[0]), float(betas[-1])) == pytest.approx(ends, rel=1e-5)
    if kind is PwLinSchedule:
        assert float(betas[9]) == float(betas[10]) == pytest.approx(5e-5)


def test_linear_may_end_in_pure_noise() -> None:
    """With 20 steps the last beta is 1."""
    schedule = LinearSchedule(steps=20)
    assert float(schedule.alpha_bar(at(1.0))) == 0.0
    assert float(schedule.log_snr(at(1.0))) == -math.inf
    assert float(schedule.inverse(schedule.log_snr(at(1.0)))) == 1.0


@pytest.mark.parametrize(
    ("index", "alpha_bar"),
    [
        *[(0, 0.985359), (100, 0.782884), (500, 0.504445), (1000, 0.295423), (1500, 0.134978), (1900, 0.025265)],
        *[(1998, 2.0204e-4), (1999, 2.0204e-7)],
    ],
)
def test_known_values(index: int, alpha_bar: float) -> None:
    schedule = SqrtSchedule()
    found = float(schedule.alpha_bar(schedule.time_of(torch.tensor([index]))))
    assert found == pytest.approx(alpha_bar, abs=1e-6, rel=1e-4)


def test_sigma_0() -> None:
    schedule = SqrtSchedule()
    assert schedule.t_min == 1 / 2000
    assert float(schedule.sigma(at(schedule.t_min))) == pytest.approx(0.121001, abs=1e-6)


@pytest.mark.parametrize("kind", ALL)
@few
@given(first=st.floats(0.0, 1.0), second=st.floats(0.0, 1.0))
def test_falls_from_one(kind: type[DiscreteSchedule], first: float, second: float) -> None:
    schedule, (early, late) = kind(), sorted((first, second))
    a, b = schedule.alpha_bar(at(early)), schedule.alpha_bar(at(late))
    assert 0 < b <= a <= 1 + 1e-15
    if late - early > 1e-9 and late > 1e-5:
        assert b < a


@pytest.mark.parametrize("kind", ALL)
def test_starts_clean(kind: type[DiscreteSchedule]) -> None:
    assert float(kind().alpha(at(0.0))) == pytest.approx(1.0, abs=1e-15)
    assert float(kind().sigma(at(0.0))) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("kind", ALL)
@few
@given(t=TIMES)
def test_keeps_the_variance(kind: type[DiscreteSchedule], t: float) -> None:
    schedule = kind()
    alpha, sigma = schedule.alpha(at(t)), schedule.sigma(at(t))
    assert_close(alpha.square() + sigma.square(), at(1.0), rtol=1e-14, atol=0)
    assert_close(schedule.log_snr(at(t)), 2 * (alpha / sigma).log(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
@few
@given(t=TIMES.filter(lambda t: abs(2000 * t - round(2000 * t)) > 1e-6))  # pieces meet in corners on the grid
def test_derivatives_are_autograds(kind: type[DiscreteSchedule], t: float) -> None:
    schedule = kind()
    for function, derivative in (
        (schedule.alpha_bar, schedule.d_alpha_bar),
        (schedule.alpha, schedule.d_alpha),
        (schedule.sigma, schedule.d_sigma),
    ):
        time = at(t).requires_grad_()
        (wanted,) = torch.autograd.grad(function(time).sum(), time)
        assert_close(derivative(at(t)), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("calls", [0, -1, 21])
def test_a_grid_of_impossible_length(calls: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 20"):
        SqrtSchedule(steps=20).grid(calls)


@few
@given(steps=st.integers(2, 60), data=st.data())
def test_between_is_uniform_over_exactly_its_indices(steps: int, data: st.DataObject) -> None:
    schedule = SqrtSchedule(steps=steps)
    low = data.draw(st.integers(1, steps))
    high = data.draw(st.integers(low, steps))
    count, each = high - low + 1, 7
    u = (torch.arange(count * each).double() + 0.5) / (count * each)
    found = (schedule.between(u, low / steps, high / steps) * steps).round().long()
    assert torch.equal(found, torch.arange(low, high + 1).repeat_interleave(each))
    ends = schedule.between(torch.tensor([0.0, 1.0]).double(), low / steps, high / steps)
    assert_close(ends, torch.tensor([low, high]).double() / steps)


def test_the_three_clocks() -> None:
    schedule = SqrtSchedule()
    t = schedule.time_of(torch.tensor([0, 1490, 1976, 1999]))
    assert_close(t, torch.tensor([0.0005, 0.7455, 0.9885, 1.0]).double())
    assert_close(schedule.network_time(t), torch.tensor([0.0, 745.0, 988.0, 999.5]).double())


def test_by_name() -> None:
    assert {"sqrt", "cosine", "linear", "trunc_lin", "pw_lin", "trunc_cos"} <= set(schedules.names())
    assert from_spec(schedules.registry, {"name": "cosine", "steps": 50}) == CosineSchedule(steps=50)


@pytest.mark.parametrize("steps", [1, 9500])
def test_steps_that_the_closed_form_cannot_hold(steps: int) -> None:
    with pytest.raises(UserError, match="steps"):
        from_spec(schedules.registry, {"name": "sqrt", "steps": steps})
    assert torch.isfinite(SqrtSchedule(steps=9000).log_snr(torch.linspace(0.01, 1, 9).double())).all()


def test_schedules_with_a_table_compare_by_their_settings() -> None:
    one, same, other = LinearSchedule(steps=50), LinearSchedule(steps=50), LinearSchedule(steps=60)
    assert one == same and hash(one) == hash(same)
    assert one != other and one != "linear"


@pytest.mark.parametrize("steps", [13, 60, 700, 2000])
def test_the_network_clock_is_multiplied_in_single_precision(steps: int) -> None:
    schedule, index = SqrtSchedule(steps=steps), torch.arange(steps)
    assert torch.equal(schedule.network_time(schedule.time_of(index)).float(), index.float() * (1000.0 / steps))
