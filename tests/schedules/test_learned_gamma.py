"""Plaid's schedule with weights: monotone whatever they are, of one slope at t_min, and refused where it is none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.schedules.learned_gamma import LearnedGamma, MonotoneGamma
from dlkit.spaces.unit_norm import UnitNormSpace
from schedules.every import at

WEIGHT = st.floats(-5.0, 5.0, width=32)
TIMES = torch.linspace(0.0, 1.0, 301, dtype=torch.float64)


@st.composite
def weights(draw: st.DrawFn) -> MonotoneGamma:
    """Any weights of size at most 5, and bounds in order."""
    hidden = draw(st.integers(1, 6))
    numbers = lambda *shape: torch.tensor(draw(st.lists(WEIGHT, min_size=hidden, max_size=hidden))).view(*shape)  # noqa: E731
    low, rise = draw(st.floats(-12.0, 6.0)), draw(st.floats(0.01, 12.0))
    module = MonotoneGamma(hidden, low, low + rise)
    values = {"W1": numbers(hidden, 1), "b1": numbers(hidden), "W2": numbers(1, hidden)}
    module.load_state_dict({**module.state_dict(), **values})
    return module


@settings(max_examples=40)
@given(weights())
def test_gamma_does_not_fall_and_ends_at_its_bounds(module: MonotoneGamma) -> None:
    schedule = LearnedGamma(lowest=0.01).holding(module)
    with torch.no_grad():
        gamma = schedule.gamma(TIMES)
        assert (gamma.diff() >= 0).all()
        assert (schedule.d_gamma(TIMES[1:]) >= 0).all()
        ends = schedule.gamma(at(0.0, 0.01, 1.0))
        assert ends[0] == -torch.inf
        assert_close(ends[1:], torch.stack(module.bounds), rtol=0, atol=1e-12)


@settings(max_examples=15)
@given(weights(), st.floats(0.002, 0.998))
def test_slope_and_inverse_are_those_of_gamma(module: MonotoneGamma, time: float) -> None:
    schedule, t = LearnedGamma(lowest=0.01).holding(module), at(time)
    if abs(time - 0.01) > 1e-9:  # there autograd has a slope of either side
        slope = torch.autograd.functional.jacobian(lambda u: schedule.gamma(u).sum(), t)
        assert_close(schedule.d_gamma(t), slope, rtol=1e-8, atol=1e-12)
    assert_close(schedule.gamma(schedule.inverse(schedule.log_snr(t))), schedule.gamma(t), rtol=1e-9, atol=1e-9)


def test_the_slope_is_the_same_on_both_sides_of_t_min() -> None:
    schedule = LearnedGamma(lowest=0.05).holding(MonotoneGamma(16, -3.0, 6.0))
    below, above = schedule.d_gamma(at(0.05 - 1e-9, 0.05 + 1e-9))
    assert_close(below, above, rtol=1e-5, atol=0)


def broken(**values: Tensor) -> dict[str, Tensor]:
    return {**MonotoneGamma(4, -3.0, 6.0).state_dict(), **values}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (broken(gamma_1=torch.tensor(-4.0)), "gamma_0=-3 and gamma_1=-4, so noise would not grow"),
        (broken(gamma_1=torch.tensor(torch.nan)), "gamma_0=-3 and gamma_1=nan"),
        (broken(gamma_1=torch.tensor(31.0)), "gamma_0=-3 and gamma_1=31, outside of -30 to 30"),
        (broken(gamma_0=torch.tensor(-95.0)), "gamma_0=-95 and gamma_1=6, outside of -30 to 30"),
        (broken(gamma_0=torch.tensor(-torch.inf)), "gamma_0=-inf and gamma_1=6, outside"),
        (broken(gamma_1=torch.tensor(torch.inf)), "gamma_0=-3 and gamma_1=inf, outside"),
        (broken(b1=torch.full((4,), 80.0)), "saturated: h goes from"),
        (broken(b1=torch.full((4,), 15.0), W1=torch.full((4, 1), 0.5)), "saturated: h goes from"),
        (broken(W2=torch.full((1, 4), -torch.inf)), "saturated: h goes from 0 to 0"),
        (broken(W1=torch.full((4, 1), torch.nan)), "saturated: h goes from nan to nan"),
    ],
)
def test_a_schedule_that_is_none_is_refused_when_it_is_loaded(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MonotoneGamma(4, -3.0, 6.0).load_state_dict(state)


def test_crossed_bounds_are_refused_before_anything_is_built() -> None:
    with pytest.raises(ValueError, match="gamma_0=6 is not below gamma_1=6"):
        LearnedGamma(gamma_0=6.0)


def test_the_weights_are_the_denoisers_and_learn() -> None:
    process = GaussianProcess.model_validate({"schedule": {"name": "learned_gamma", "hidden": 4}})
    denoiser = Denoiser(UnitNormSpace(5, 3), process, torch.nn.Identity(), "prior_logits")
    denoiser.process.alpha(at(0.3), torch.zeros(1, 2, 3)).sum().backward()
    learned = {name for name, p in denoiser.named_parameters() if p.grad is not None}
    assert learned == {f"schedule.{name}" for name in ("W1", "b1", "W2", "gamma_0", "gamma_1")}
    twin = Denoiser(denoiser.space, denoiser.process, torch.nn.Identity(), "prior_logits")
    assert twin.schedule is denoiser.schedule
