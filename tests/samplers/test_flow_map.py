"""The flow map's sampler: exact in any number of jumps, and the right amount of noise after each."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.randomness import Stream
from dlkit.samplers._base import Noise
from dlkit.samplers.ddim import Ddim
from dlkit.samplers.euler import Euler
from dlkit.samplers.flow_map import FlowMapSampler
from dlkit.samplers.renoise import Renoise
from dlkit.spaces.embedding import EmbeddingSpace
from flow_lab import PROCESSES, GaussianMap, times
from schedules.every import table

B, L, D = 4000, 2, 3
MEAN, VARIANCE = times(0.5, -0.3, 0.0), times(0.5, 1.0, 2.0)


class Exact(nn.Module):
    """The exact map of a Gaussian as a network, of one time or of two, each fed as a thousand times the schedule's."""

    def __init__(self, process: GaussianProcess, two_times: bool) -> None:
        super().__init__()
        self.map, self.two_times = GaussianMap(MEAN, VARIANCE, process), two_times

    def forward(self, x: Tensor, time: Tensor, taps: None = None, *, end: Tensor | None = None) -> tuple[Tensor, None]:
        assert self.two_times or end is None
        return self.map(x, time / 1000, time / 1000 if end is None else end / 1000), None


def exact(name: str = "trig", two_times: bool = True) -> Denoiser:
    return Denoiser(EmbeddingSpace(3, D).double(), PROCESSES[name], Exact(PROCESSES[name], two_times))


def sampled(sampler: FlowMapSampler | Ddim | Renoise | Euler, denoiser: Denoiser, rows: int = B) -> Tensor:
    return sampler.sample(denoiser, free(rows), noise(rows))


def noise(rows: int) -> Noise:
    return lambda k: Stream(0, "z", k).normal(torch.arange(rows), L, D).double()


def free(rows: int) -> Condition:
    return Condition(None, torch.ones(rows, L, dtype=torch.bool))


@pytest.mark.parametrize("name", ["trig", "rectified_flow"])
def test_any_number_of_jumps_ends_at_the_same_place(name: str) -> None:
    denoiser = exact(name)
    one = sampled(FlowMapSampler(), denoiser, 5)
    end = GaussianMap(MEAN, VARIANCE, PROCESSES[name]).jump(
        noise(5)(0), torch.ones(5).double(), torch.zeros(5).double()
    )
    assert_close(one, end)
    for steps in (2, 3, 8):
        assert_close(sampled(FlowMapSampler(steps=steps), denoiser, 5), one)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("name", ["trig", "rectified_flow"])
def test_texts_stay_those_of_the_data_whatever_is_drawn_anew(name: str, gamma: float) -> None:
    """Mean and variance within five standard errors."""
    x = sampled(FlowMapSampler(steps=3, gamma=gamma), exact(name)).flatten(0, 1)
    count = len(x) ** 0.5
    assert bool(((x.mean(0) - MEAN).abs() < 5 * VARIANCE.sqrt() / count).all())
    assert bool(((x.var(0) / VARIANCE - 1).abs() < 5 * 2**0.5 / count).all())


def test_the_noise_that_is_lacking_is_added() -> None:
    """By way of u: alpha_t / alpha_u X_{s,u} + gamma sigma_t z, with the log SNR that the docstring says."""
    process, gamma, denoiser = PROCESSES["trig"], 0.6, exact()
    schedule, seen = process.noise_schedule, []
    FlowMapSampler(steps=2, gamma=gamma).sample(denoiser, free(5), noise(5), lambda k, t, x, x0: seen.append((t, x)))
    (begin, x), (now, x_t) = seen
    s, t = (torch.full((5,), time).double() for time in (begin, now))
    u = schedule.inverse(schedule.log_snr(t) - torch.log(1 - times(gamma).square()))
    assert bool((u < t).all())
    x_u = GaussianMap(MEAN, VARIANCE, process).jump(x, s, u)
    way = process.alpha(t, x) / process.alpha(u, x) * x_u + gamma * process.sigma(t, x) * noise(5)(1)
    assert_close(x_t, way)


def test_of_a_network_of_one_time_it_is_eulers() -> None:
    denoiser = exact("rectified_flow", two_times=False)
    assert_close(sampled(FlowMapSampler(steps=5), denoiser, 5), sampled(Euler(steps=5, guard=0.0), denoiser, 5))


def test_with_all_noise_new_it_is_renoise() -> None:
    denoiser = exact(two_times=False)
    jumps, again = FlowMapSampler(steps=4, gamma=1.0), Renoise(steps=4, t_init=1.0)
    assert_close(sampled(jumps, denoiser, 5), sampled(again, denoiser, 5))


def test_noise_of_each_position_has_no_such_time() -> None:
    schedule = GaussianProcess.model_validate(
        {"schedule": {"name": "per_position", "table": table([3.0, 8.0], 20)}}
    ).noise_schedule
    assert FlowMapSampler(gamma=1.0).calls(schedule) == 1
    with pytest.raises(UserError, match=r"gamma=0\.5"):
        FlowMapSampler(gamma=0.5).calls(schedule)
