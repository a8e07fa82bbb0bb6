"""FLM's clock; ``parity`` holds that it is the original's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.schedules.token_accuracy import SLOPE, TokenAccuracySchedule

VOCABULARIES = st.sampled_from([2, 3, 50, 101, 1000, 30522, 50258])


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_two_tokens_in_closed_form() -> None:
    """Of two coordinates the right one is larger with probability Phi(r / sqrt 2)."""
    c = torch.linspace(0.0, 0.95, 60, dtype=torch.float64)
    wanted = 2.0 * torch.special.ndtr(c / (1.0 - c) / math.sqrt(2.0)) - 1.0 + SLOPE * (c - 1.0)
    assert_close(TokenAccuracySchedule(vocab_size=2).tau(c), wanted.clamp(0.0, 1.0), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("tokens", [5, 40])
def test_it_is_how_often_the_largest_coordinate_is_right(tokens: int) -> None:
    generator, n = torch.Generator().manual_seed(0), 40_000
    schedule = TokenAccuracySchedule(vocab_size=tokens)
    for t in (0.2, 0.5, 0.8):
        c = schedule.alpha(times(t))
        x = (1.0 - c) * torch.randn(n, tokens, generator=generator)
        x[:, 0] += c
        right = float((x.argmax(1) == 0).double().mean())
        chance = 1.0 / tokens
        assert (right - chance) / (1.0 - chance) == pytest.approx(1.0 - t, abs=4.0 / math.sqrt(n))


@given(tokens=VOCABULARIES, tau=st.floats(1e-6, 1.0))
def test_the_way_back(tokens: int, tau: float) -> None:
    schedule = TokenAccuracySchedule(vocab_size=tokens)
    c = schedule.alpha(times(1.0 - tau))
    assert 0.0 <= float(c) <= 1.0
    assert float(schedule.tau(c)) == pytest.approx(1.0 - (1.0 - tau), abs=1e-9)


@pytest.mark.parametrize("tokens", [568, 16700])
def test_the_way_back_from_below_the_beginning(tokens: int) -> None:
    """At many sizes the rule has tau(0) above 0, though not by much: what lies between goes to c = 0."""
    schedule = TokenAccuracySchedule(vocab_size=tokens)
    begin = float(schedule.tau(times(0.0)))
    assert 1e-7 < begin < 1e-6
    tau = torch.cat((torch.linspace(0, 1, 101, dtype=torch.float64), times(begin / 2)))
    assert_close(schedule.tau(schedule.alpha(1.0 - tau)), tau, rtol=0.0, atol=begin + 1e-9)


@given(tokens=VOCABULARIES, low=st.floats(0.0, 1.0), high=st.floats(0.0, 1.0))
def test_more_text_is_never_less_accurate(tokens: int, low: float, high: float) -> None:
    schedule = TokenAccuracySchedule(vocab_size=tokens)
    low, high = min(low, high), max(low, high)
    first, last = schedule.tau(times(low, high))
    assert 0.0 <= float(first) <= float(last) <= 1.0
    assert float(schedule.alpha(times(low))) >= float(schedule.alpha(times(high)))


@given(tokens=VOCABULARIES, c=st.floats(0.05, 0.9))
def test_its_slope(tokens: int, c: float) -> None:
    h, accuracy = 1e-6, TokenAccuracySchedule(vocab_size=tokens)._accuracy
    low, high = accuracy.exact(times(c - h, c + h))
    slope = float(accuracy.slope(times(c)))
    assert slope == pytest.approx(float(high - low) / (2 * h), rel=1e-4, abs=1e-7)


def test_both_ends() -> None:
    for tokens in (2, 101, 30522, 50258):
        schedule = TokenAccuracySchedule(vocab_size=tokens)
        assert schedule.alpha(times(0.0, 1.0)).tolist() == [1.0, 0.0]
        assert schedule.sigma(times(0.0, 1.0)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("tokens", "levels"), [(30522, (0.736, 0.805, 0.845)), (50258, (0.744, 0.809, 0.848))])
def test_all_that_can_be_told_lies_close_together(tokens: int, levels: tuple[float, ...]) -> None:
    found = TokenAccuracySchedule(vocab_size=tokens).alpha(times(0.9, 0.5, 0.1))
    assert found.tolist() == pytest.approx(levels, abs=6e-4)


def test_it_must_know_the_number_of_tokens() -> None:
    unbound = TokenAccuracySchedule()
    with pytest.raises(UserError, match="counts tokens; give it vocab_size"):
        unbound.alpha(times(0.5))
    assert unbound.for_vocabulary(50) == TokenAccuracySchedule(vocab_size=50)
    assert TokenAccuracySchedule(vocab_size=7).for_vocabulary(50).vocab_size == 7
    process = GaussianProcess.model_validate({"schedule": "token_accuracy"})
    assert process.for_vocabulary(50).noise_schedule == TokenAccuracySchedule(vocab_size=50)
    with pytest.raises(UserError, match="vocab_size"):
        unbound.replace(vocab_size=1)
