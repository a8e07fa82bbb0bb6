"""Conversions between parameterisations: by definition, there and back, and at the ends of schedules."""

import inspect
import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.diffusion.parameterization import TARGETS, Target
from dlkit.diffusion.processes.gaussian import GaussianProcess
from noise_levels import PROCESSES, Coefficients

PAIRS = [*itertools.product(TARGETS, TARGETS)]
NEAR = st.floats(-9, -1).map(lambda power: 10.0**power)
TIMES = st.one_of(st.floats(0, 1), NEAR, NEAR.map(lambda t: 1 - t))
SHAPE = (2, 3, 4)
process_of = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
some = settings(max_examples=25)


def state(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(time: float) -> Tensor:
    return torch.full(SHAPE[:1], time, dtype=torch.float64)


def level_of(process: GaussianProcess, time: float) -> Coefficients:
    return Coefficients.of(process, at(time), torch.zeros(SHAPE))


@process_of
@some
@given(st.sampled_from(TARGETS), TIMES, st.integers(0, 10**6))
def test_each_means_what_it_says(process: GaussianProcess, source: Target, time: float, seed: int) -> None:
    """Each parameterisation of a known (x0, eps) becomes each other."""
    level, x0, eps = level_of(process, time), state(seed), state(seed + 1)
    assume(float(level.alpha.min()) >= 1e-3 and float(level.sigma.min()) >= 1e-3)
    known, x_t = level.everything(x0, eps), process.q_sample(x0, at(time), eps)
    for to in TARGETS:
        found = process.convert(known[source], x_t, at(time), source, to)
        assert float((found - known[to]).abs().max()) <= 1e-8 * float(known[to].abs().max()), (source, to)


@process_of
@some
@given(st.sampled_from(TARGETS), TIMES, st.integers(0, 10**6))
def test_they_come_back(process: GaussianProcess, source: Target, time: float, seed: int) -> None:
    """Of any value, whatever x_t: to another and back is where it began, to 1e-8 of what is added up on the way."""
    level, value, x_t = level_of(process, time), state(seed), state(seed + 1)
    assume(float(level.alpha.min()) >= 1e-3 and float(level.sigma.min()) >= 1e-3)
    for to in TARGETS:
        there = process.convert(value, x_t, at(time), source, to)
        back = process.convert(there, x_t, at(time), to, source)
        zero = torch.zeros_like(value)
        of_there = process.convert(there, zero, at(time), to, source).abs().max()  # back, without what x_t adds
        assert float((back - value).abs().max()) <= 1e-8 * max(float(of_there), 1.0), (source, to)


@process_of
@pytest.mark.parametrize("end", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_nothing_is_nan_at_the_ends(process: GaussianProcess, end: float, dtype: torch.dtype) -> None:
    """Of any value, and with finite gradients."""
    x_t, value = state(0).to(dtype), state(1).to(dtype).requires_grad_()
    for source, to in PAIRS:
        found = process.convert(value, x_t, at(end), source, to)
        assert found.dtype == dtype
        assert found.isfinite().all(), (source, to)
        (gradient,) = torch.autograd.grad(found.float().sum(), value, materialize_grads=True, allow_unused=True)
        assert gradient.isfinite().all(), (source, to)


@process_of
def test_at_clean_states(process: GaussianProcess) -> None:
    """Where sigma = 0, x0 is x_t / alpha and a v is alpha eps; x0, score and infinite rates say nothing of eps."""
    level, value, x_t = level_of(process, 0.0), state(0), state(1)
    if bool(level.sigma.any()):
        pytest.skip("this schedule begins with noise")
    clean = x_t / level.alpha
    for source in ("eps", "v", "score", "velocity"):
        assert_close(process.convert(value, x_t, at(0.0), source, "x0"), clean)
    silent = {"x0": clean, "score": value, **({"velocity": value} if level.d_sigma.isinf().any() else {})}
    for source, given_ in silent.items():
        for to in {"eps", "v", "score"} - {source}:
            assert not process.convert(given_, x_t, at(0.0), source, to).any()  # type: ignore[arg-type]
    assert_close(process.convert(value, x_t, at(0.0), "v", "eps"), value / level.alpha)
    rate = torch.where(level.d_alpha.isinf(), 0.0, level.d_alpha)
    assert_close(process.convert(clean, x_t, at(0.0), "x0", "velocity"), rate * clean)


@pytest.mark.parametrize("name", ["rectified_flow", "trig", "slow at both ends", "steep at both ends"])
def test_at_pure_noise(name: str) -> None:
    """Where alpha = 0, eps is x_t / sigma and the rest is known from x0; eps and score say nothing of x0."""
    process = PROCESSES[name]
    level, x0, eps = level_of(process, 1.0), state(0), state(1)
    assert not level.alpha.any()
    known, x_t = level.everything(x0, eps), process.q_sample(x0, at(1.0), eps)
    for source in ("eps", "score"):
        assert not process.convert(known[source], x_t, at(1.0), source, "x0").any()
        assert_close(process.convert(known[source], x_t, at(1.0), source, "eps"), eps)
    for source in ("x0", "v"):
        for to in ("x0", "eps", "v", "score"):
            assert_close(process.convert(known[source], x_t, at(1.0), source, to), known[to])


@pytest.mark.parametrize("name", ["rectified_flow", "trig"])
def test_a_finite_velocity_holds_everything_at_pure_noise(name: str) -> None:
    process = PROCESSES[name]
    level, x0, eps = level_of(process, 1.0), state(0), state(1)
    known, x_t = level.everything(x0, eps), process.q_sample(x0, at(1.0), eps)
    for other in ("x0", "eps", "v", "score"):
        assert_close(process.convert(known["velocity"], x_t, at(1.0), "velocity", other), known[other])
    for other in ("x0", "v"):
        assert_close(process.convert(known[other], x_t, at(1.0), other, "velocity"), known["velocity"])


def test_at_a_time_without_rates_x_t_is_all_there_is() -> None:
    process, x_t = PROCESSES["slow at both ends"], state(0)
    assert_close(process.convert(torch.zeros(SHAPE).double(), x_t, at(0.0), "velocity", "x0"), x_t)
    assert not process.convert(x_t, x_t, at(0.0), "x0", "velocity").any()


@process_of
@pytest.mark.parametrize("time", [0.1234, 0.5678, 0.9123])
def test_velocity_is_the_derivative_of_the_state(process: GaussianProcess, time: float) -> None:
    x0, eps, step = state(0), state(1), 1e-6
    after, before = (process.q_sample(x0, at(time + h), eps) for h in (step, -step))
    x_t = process.q_sample(x0, at(time), eps)
    velocity = process.convert(x0, x_t, at(time), "x0", "velocity")
    assert_close(velocity, (after - before) / (2 * step), rtol=1e-5, atol=1e-5 * float(velocity.abs().max()))


def test_velocity_of_a_straight_path_by_hand() -> None:
    """x_t = (1 - t) x0 + t eps: velocity is eps - x0, and x0 is x_t - t velocity."""
    process, velocity, x_t = PROCESSES["rectified_flow"], state(0), state(1)
    assert_close(process.convert(velocity, x_t, at(0.3), "velocity", "x0"), x_t - 0.3 * velocity)
    assert_close(process.convert(velocity, x_t, at(0.3), "velocity", "eps"), x_t + 0.7 * velocity)


def test_velocity_of_a_quarter_turn_is_v() -> None:
    """Times pi / 2: x_t turns from x0 to eps with the angle pi t / 2, and v is its derivative by the angle."""
    process, v, x_t = PROCESSES["trig"], state(0), state(1)
    for time in (0.0, 0.3, 1.0):
        velocity = process.convert(v, x_t, at(time), "v", "velocity")
        assert_close(velocity, torch.pi / 2 * v)
        assert_close(process.convert(velocity, x_t, at(time), "velocity", "v"), v)


def test_v_needs_no_division_where_variance_is_preserved() -> None:
    """x0 = alpha x_t - sigma v, eps = sigma x_t + alpha v (Salimans & Ho): exact to the last digits at every time."""
    process, v, x_t = GaussianProcess(), state(0), state(1)
    for time in (0.0, 1e-12, 0.5, 1.0 - 1e-12, 1.0):
        alpha, sigma = process.alpha(at(time), x_t), process.sigma(at(time), x_t)
        for to, wanted in (("x0", alpha * x_t - sigma * v), ("eps", sigma * x_t + alpha * v)):
            assert_close(process.convert(v, x_t, at(time), "v", to), wanted, rtol=1e-14, atol=1e-14)  # type: ignore[arg-type]


@process_of
@pytest.mark.parametrize("source", ["x0", "eps", "v", "velocity"])
def test_single_precision_comes_near_double(process: GaussianProcess, source: Target) -> None:
    """Coefficients are made in float64: what float32 adds is its own rounding, at times from almost clean to noise."""
    x0, eps = state(0), state(1)
    for time in (1e-5, 0.3, 0.999):
        known = level_of(process, time).everything(x0, eps)
        x_t = process.q_sample(x0, at(time), eps)
        for to in TARGETS:
            rounded = process.convert(known[source].float(), x_t.float(), at(time), source, to).double()
            nudged = process.convert(known[source] * (1 + 6e-8), x_t * (1 - 6e-8), at(time), source, to)
            allowed = 10 * (nudged - known[to]).abs().max() + 1e-5 * known[to].abs().max()
            assert float((rounded - known[to]).abs().max()) <= float(allowed), (time, to)


def test_what_is_refused() -> None:
    convert = inspect.unwrap(GaussianProcess.convert)  # as without run-time checks
    x_t, t = state(0), at(0.5)
    known = ", ".join(TARGETS)
    for source, to in (("x0", "u"), ("u", "x0"), ("x0", "logits"), ("logits", "eps")):
        with pytest.raises(ValueError, match=f"{source!r} to {to!r}; known: {known}"):
            convert(GaussianProcess(), x_t, x_t, t, source, to)
