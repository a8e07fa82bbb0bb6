"""Times by the size of their losses."""

from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.diffusion.time_samplers._base import IndexState, inverse_cdf
from dlkit.diffusion.time_samplers.loss_second_moment import LossHistory, LossSecondMoment
from dlkit.diffusion.time_samplers.low_noise_twice import LowNoiseTwice
from dlkit.errors import UserError
from dlkit.schedules._base import Schedule
from dlkit.schedules.sqrt import SqrtSchedule

T = 7
SCHEDULE = SqrtSchedule(steps=T)
LOSSES = st.lists(st.tuples(st.integers(0, T - 1), st.floats(0, 1e3, width=32)), max_size=40)


def fresh(history: int = 3, uniform: float = 0.001, steps: int = T) -> LossHistory:
    return LossSecondMoment(history=history, uniform=uniform).start(SqrtSchedule(steps=steps))


def observed(state: LossHistory, pairs: list[tuple[int, float]]) -> LossHistory:
    index = torch.tensor([i for i, _ in pairs], dtype=torch.int64)
    state.observe(state.schedule.time_of(index), torch.tensor([loss for _, loss in pairs]))
    return state


def warm(losses: Tensor, history: int = 3, uniform: float = 0.001) -> LossHistory:
    """A history that holds the same loss of an index again and again."""
    n = len(losses)
    return observed(fresh(history, uniform, n), [(i, float(losses[i])) for i in range(n) for _ in range(history)])


@given(st.lists(LOSSES, max_size=4))
def test_it_keeps_the_last_losses_of_every_index(batches: list[list[tuple[int, float]]]) -> None:
    state, queues = fresh(), [deque(maxlen=3) for _ in range(T)]
    for batch in batches:
        observed(state, batch)
        for index, loss in batch:
            queues[index].append(loss)
    assert state.counts.tolist() == [len(queue) for queue in queues]
    assert state.losses.tolist() == [[0.0] * (3 - len(queue)) + list(queue) for queue in queues]


@given(LOSSES, st.integers(0, 40))
def test_batches_may_be_cut(batch: list[tuple[int, float]], cut: int) -> None:
    whole, pieces = observed(fresh(), batch), observed(observed(fresh(), batch[:cut]), batch[cut:])
    assert torch.equal(whole.losses, pieces.losses)
    assert torch.equal(whole.counts, pieces.counts)


def test_times_are_uniform_until_every_index_has_its_losses() -> None:
    state = observed(fresh(), [(i, 1.0 + i) for i in range(T) for _ in range(3)][:-1])
    assert state.probabilities().tolist() == [1 / T] * T
    assert state.draw(torch.tensor([0.3, 0.99]).double())[1].tolist() == [1.0, 1.0]
    observed(state, [(T - 1, float(T))])
    assert state.probabilities().tolist() != [1 / T] * T


def test_probabilities_by_hand() -> None:
    state = observed(fresh(2, 0.1, 2), [(0, 3.0), (0, 4.0), (1, 1.0), (1, 7.0)])
    first, second = 12.5**0.5, 5.0
    assert_close(
        state.probabilities(),
        torch.tensor([0.9 * first / (first + second) + 0.05, 0.9 * second / (first + second) + 0.05]).double(),
        rtol=1e-6,
        atol=0,
    )


def test_losses_that_are_all_zero_leave_times_uniform() -> None:
    assert warm(torch.zeros(T)).probabilities().tolist() == [1 / T] * T


@given(st.lists(st.floats(0, 1e3, width=32), min_size=T, max_size=T), st.floats(1e-3, 1.0))
def test_every_index_keeps_its_share(losses: list[float], uniform: float) -> None:
    p = warm(torch.tensor(losses), uniform=uniform).probabilities()
    assert_close(p.sum(), torch.tensor(1.0).double())
    assert float(p.min()) >= uniform / T * (1 - 1e-12)


@pytest.mark.parametrize("state", [warm(torch.rand(2 * T) + 0.1), LowNoiseTwice().start(SqrtSchedule(steps=2 * T))])
@given(st.lists(st.floats(-1e3, 1e3), min_size=2 * T, max_size=2 * T))
def test_the_weighted_mean_is_the_uniform_one(state: IndexState, values: list[float]) -> None:
    """E_p[w f] = sum_i p_i f_i / (T p_i), exactly and for every f."""
    p, f = state.probabilities(), torch.tensor(values).double()
    _, weight = state.draw(p.cumsum(0) - p / 2)  # each index once
    assert_close((p * weight * f).sum(), f.mean())


def test_the_variance_falls() -> None:
    """With p in proportion to |f| it would be zero; the uniform share and the spread of f leave a little."""
    f = torch.linspace(0.05, 3.0, T).double().square()
    state = warm(f)
    p = state.probabilities()
    _, weight = state.draw(p.cumsum(0) - p / 2)
    mean = f.mean()
    ours, uniform = (p * (weight * f - mean).square()).sum(), (f - mean).square().mean()
    assert float(ours) < 0.01 * float(uniform)


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20))
def test_evenly_spread_uniforms_give_each_index_its_share(relative: list[float]) -> None:
    p, n = torch.tensor(relative).double() / sum(relative), 20_000
    u = (torch.arange(n).double() + 0.5) / n
    counts = inverse_cdf(p, u).bincount(minlength=len(p))
    assert float((counts / n - p).abs().max()) <= 1.0001 / n


@given(st.floats(0, 1, exclude_max=True))
def test_a_draw_lies_where_the_distribution_function_passes_the_uniform(u: float) -> None:
    p = torch.tensor([0.2, 0.0, 0.5, 0.3], dtype=torch.float64)
    (index,) = inverse_cdf(p, torch.tensor([u], dtype=torch.float64)).tolist()
    edges = [0.0, 0.2, 0.2, 0.7, 1.0]
    assert edges[index] - 1e-15 <= u < edges[index + 1] + 1e-15
    assert index != 1  # it has no share


def test_a_draw_belongs_to_its_sample() -> None:
    """It depends on its own uniform and on the state, not on its batch mates."""
    state, u = warm(torch.rand(T)), torch.rand(9).double()
    together = state.draw(u)
    alone = [state.draw(u[k : k + 1]) for k in range(9)]
    for which in (0, 1):
        assert torch.equal(together[which], torch.cat([each[which] for each in alone]))


def test_the_times_are_those_of_the_grid() -> None:
    state = LossSecondMoment().start(SqrtSchedule())
    u = (torch.arange(2000).double() + 0.5) / 2000
    t, _ = state.draw(u)
    assert torch.equal(t, SqrtSchedule().time_of(torch.arange(2000)))
    assert state.index_of(t).tolist() == list(range(2000))
    assert torch.equal(LossSecondMoment().sample(u, SqrtSchedule()), t)


def test_a_state_goes_on() -> None:
    state, other = warm(torch.rand(T)), fresh()
    other.load({name: tensor.clone() for name, tensor in state.tensors().items()})
    for each in (state, other):
        observed(each, [(2, 5.0), (2, 1.0)])
    assert torch.equal(other.probabilities(), state.probabilities())
    for damaged in ({}, fresh(history=4).tensors()):
        with pytest.raises(UserError, match="the checkpoint is damaged: no losses of shape"):
            other.load(damaged)


def test_halves() -> None:
    p = LowNoiseTwice().start(SqrtSchedule(steps=4)).probabilities()
    assert_close(p, torch.tensor([2, 2, 1, 1]).double() / 6)
    u = torch.tensor([0.1, 0.9]).double()
    t, weight = LowNoiseTwice().start(SqrtSchedule(steps=4)).draw(u)
    assert t.tolist() == LowNoiseTwice().sample(u, SqrtSchedule(steps=4)).tolist() == [0.25, 1.0]
    assert weight.tolist() == [0.75, 1.5]
    assert len(LowNoiseTwice().start(SqrtSchedule(steps=5)).probabilities()) == 4  # as in the original


@pytest.mark.parametrize("sampler", [LossSecondMoment(), LowNoiseTwice()])
def test_a_schedule_without_a_grid_is_refused(sampler: LossSecondMoment | LowNoiseTwice) -> None:
    class Gridless(Schedule):
        """Continuous in time; only its type is looked at."""

        registered_name = "flow"

    Gridless.__abstractmethods__ = frozenset()
    with pytest.raises(UserError, match="draws the steps of a schedule's grid, and 'flow' has none; use uniform"):
        sampler.start(Gridless())  # type: ignore[abstract]
