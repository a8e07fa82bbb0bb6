"""Flow maps: the identities, on Gaussian data whose map is a formula, under schedules of every kind."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.diffusion import flow_map
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.randomness import Stream
from flow_lab import FLOW, PROCESSES, GaussianMap, TokenMap, quotient, times

EXACT = {"rtol": 1e-9, "atol": 1e-10}
NAMES = st.sampled_from(sorted(PROCESSES))
SEEDS = st.integers(0, 10**6)
TIME = st.floats(0.05, 1.0)


def gaussian(seed: int, process: GaussianProcess) -> tuple[GaussianMap, Tensor]:
    """Some data, and states."""
    draws = Stream(seed, "flow").normal(torch.arange(3), 2, 5).double()
    exact = GaussianMap(draws[0, 0], torch.exp(draws[0, 1]), process)
    return exact, draws[1:] + 0.3


def at(value: float) -> Tensor:
    return times(value, value)


@given(NAMES, SEEDS, TIME)
def test_the_diagonal_is_the_denoiser(name: str, seed: int, s: float) -> None:
    """D_{s,s} = E[x0 | x_s], which is m + alpha v / V (x - alpha m)."""
    exact, x = gaussian(seed, PROCESSES[name])
    alpha, sigma = PROCESSES[name].alpha(at(s), x), PROCESSES[name].sigma(at(s), x)
    gain = alpha * exact.variance / (alpha.square() * exact.variance + sigma.square())
    assert_close(exact(x, at(s), at(s)), exact.mean + gain * (x - alpha * exact.mean), **EXACT)


@given(NAMES, SEEDS, TIME, st.floats(0, 0.95))
def test_a_jump_is_a_step_of_ddim(name: str, seed: int, s: float, part: float) -> None:
    """To clean text too, where the jump is D itself."""
    exact, x = gaussian(seed, PROCESSES[name])
    for t in (s * part, 0.0):
        d = exact(x, at(s), at(t))
        assert_close(PROCESSES[name].ddim(x, d, at(s), at(t)), exact.jump(x, at(s), at(t)), **EXACT)
        assert_close(quotient(PROCESSES[name], x, exact.jump(x, at(s), at(t)), at(s), at(t)), d, rtol=1e-7, atol=1e-8)


@given(NAMES, SEEDS, TIME, st.floats(0.05, 0.95), st.floats(0, 0.95))
def test_two_jumps_are_one(name: str, seed: int, s: float, first: float, second: float) -> None:
    """X_{s,t} = X_{u,t} o X_{s,u}, of the states and of D by its share; also for t = 0."""
    process, u = PROCESSES[name], s * first
    exact, x = gaussian(seed, process)
    for t in (u * second, 0.0):
        x_u = process.ddim(x, exact(x, at(s), at(u)), at(s), at(u))
        d_su, d_ut = exact(x, at(s), at(u)), exact(x_u, at(u), at(t))
        assert_close(process.ddim(x_u, d_ut, at(u), at(t)), exact.jump(x, at(s), at(t)), **EXACT)
        joined = flow_map.joined(process, d_su, d_ut, at(s), at(u), at(t))
        assert_close(joined, exact(x, at(s), at(t)), rtol=1e-7, atol=1e-8)


@settings(max_examples=30)
@given(NAMES, SEEDS, st.floats(0.1, 0.98), st.floats(0.1, 0.9))
def test_derivatives_give_the_map(name: str, seed: int, s: float, part: float) -> None:
    """The Lagrangian and the Eulerian identity hold to the last digits."""
    process, begin, end = PROCESSES[name], at(s), at(s * part)
    exact, x = gaussian(seed, process)
    d, slope = flow_map.along(lambda t: exact(x, begin, t), (end,), (torch.ones_like(end),))
    arrived = exact(exact.jump(x, begin, end), end, end)
    assert_close(flow_map.lagrangian(process, arrived, slope, begin, end), d, rtol=1e-7, atol=1e-8)
    velocity = process.convert(exact(x, begin, begin), x, begin, "x0", "velocity")
    ones = torch.ones_like(begin)
    _, slope = flow_map.along(lambda x_s, r: exact(x_s, r, end), (x, begin), (velocity, ones))
    assert_close(flow_map.eulerian(process, exact(x, begin, begin), slope, begin, end), d, rtol=1e-7, atol=1e-8)


@given(st.floats(0.01, 0.4), st.floats(0.41, 0.7), st.floats(0.71, 1.0))
def test_the_formulas_of_a_straight_flow(s: float, u: float, t: float) -> None:
    """With c = 1 - time, those of the paper."""
    schedule = FLOW.noise_schedule
    begin, middle, end = (times(1 - c) for c in (s, u, t))
    share = flow_map.share(schedule, begin, middle, end)
    assert_close(share, times((1 - t) * (u - s) / ((1 - u) * (t - s))), rtol=1e-9, atol=1e-12)
    assert_close(flow_map.sweep(schedule, begin, end), times(t - s))
    assert_close(-flow_map.rate(schedule, begin), times(1.0))
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    lagrangian = flow_map.lagrangian(FLOW, zero, one, begin, end)  # d/dt is -d/dc, and so is the rate
    assert_close(lagrangian, times((t - s) * (1 - t) / (1 - s))[None], rtol=1e-9, atol=1e-12)
    if t < 1:
        eulerian = flow_map.eulerian(FLOW, zero, one, begin, end)
        assert_close(eulerian, -times((1 - s) * (t - s) / (1 - t))[None], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["rectified_flow", "cosine"])
def test_tokens_have_a_map_too(name: str) -> None:
    """D is a distribution, two jumps are one, and the diagonal is Bayes' rule."""
    process = PROCESSES[name]
    exact = TokenMap(times(0.5, 0.3, 0.2).log(), process)
    x = Stream(0, "tokens").normal(torch.arange(2), 4, 3).double()
    s, u, t = at(0.9), at(0.6), at(0.3)
    d = exact(x, s, t)
    assert_close(d.sum(-1), torch.ones(2, 4).double())
    assert d.min() > 0
    x_u = process.ddim(x, exact(x, s, u), s, u)
    assert_close(flow_map.joined(process, exact(x, s, u), exact(x_u, u, t), s, u, t), d, rtol=1e-5, atol=1e-6)
    alpha, sigma = process.alpha(s, x), process.sigma(s, x)
    likelihood = -(x[..., None, :] - alpha[..., None] * torch.eye(3).double()).square().sum(-1) / (2 * sigma.square())
    assert_close(exact(x, s, s), (exact.log_shares + likelihood).softmax(-1))
