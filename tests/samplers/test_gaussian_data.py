"""Samplers where everything is known: Gaussian data with its exact denoiser, around a mean or around 0.

With x0 ~ N(mu, v) the ODE carries x_t to the same quantile of every other x_s, and E[x0 | x_t] is linear in x_t.
"""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dlkit import samplers
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.part import from_spec
from dlkit.samplers._base import GridSampler
from dlkit.samplers.ddim import Ddim
from dlkit.samplers.dpm_solver_pp_2m import DpmSolverPp2m
from dlkit.schedules._base import Schedule
from dlkit.spaces.embedding import EmbeddingSpace

B, L, D = 64, 8, 4
MU, VARIANCE = 0.7, 0.3
STEPS = 2000


class Regression(nn.Module):
    """E[x0 | x_t] of N(MU, VARIANCE) in every coordinate."""

    def __init__(self, process: GaussianProcess) -> None:
        super().__init__()
        self.process = process

    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, None]:
        t = time / 1000 + self.process.noise_schedule.t_min  # undoes the network's clock
        mean, spread = marginal(self.process, t, x)
        return MU + self.process.alpha(t, x) * VARIANCE / spread.square() * (x - mean), None


def denoiser(shifted: bool, steps: int = STEPS) -> Denoiser:
    schedule = {"name": "sqrt", "steps": steps}
    process = MeanShift(schedule=schedule, absorb_rate=0.0) if shifted else GaussianProcess(schedule=schedule)  # type: ignore[arg-type]
    backbone = Regression(process)
    made = Denoiser(EmbeddingSpace(3, D), process, backbone)
    if shifted:
        with torch.no_grad():
            made.space.mean_embed = nn.Parameter(torch.tensor([-2.0, -0.5, 0.5, 3.0]).double(), requires_grad=False)
    backbone.process = made.process
    return made


def marginal(process: GaussianProcess, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_t, from x_t = m + alpha (x0 - m) + sigma eps."""
    m = 0.0 if process.mean is None else process.mean
    alpha, sigma = process.alpha(t, like), process.sigma(t, like)
    return m + alpha * (MU - m), (alpha**2 * VARIANCE + sigma**2).sqrt()


def draws(k: int) -> Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(k), dtype=torch.float64)


FREE = Condition(torch.zeros(B, L, D), torch.ones(B, L, dtype=torch.bool))
around = pytest.mark.parametrize("shifted", [False, True], ids=["around 0", "around m"])


def times(value: float) -> Tensor:
    return torch.full((B,), value, dtype=torch.float64)


@around
@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        ({"name": "ddim", "steps": 50}, 0.2),
        ({"name": "ddim", "steps": 100}, 0.12),
        ({"name": "dpm_solver_pp_2m", "steps": 50}, 0.08),
        ({"name": "dpm_solver_pp_2m", "steps": 100}, 0.05),
    ],
    ids=str,
)
def test_deterministic_samplers_go_to_the_quantiles(shifted: bool, spec: dict[str, Any], limit: float) -> None:
    made = denoiser(shifted)
    x = from_spec(samplers.registry, spec).sample(made, FREE, draws)
    lowest = times(made.process.noise_schedule.t_min)
    mean, spread = marginal(made.process, lowest, x)
    top, wide = marginal(made.process, times(1.0), x)
    z = (made.process.prior(draws(0)) - top) / wide
    wanted, _ = made.backbone(mean + spread * z, made.process.noise_schedule.network_time(lowest))
    assert_close(x, wanted, rtol=0, atol=limit)


def error(kind: type[GridSampler], steps: int, shifted: bool) -> float:
    """Largest error after equal steps in log SNR from t = .95 to .05, from the exact state at .95."""
    made = denoiser(shifted)
    schedule = made.process.noise_schedule
    ends = schedule.log_snr(torch.tensor([0.95, 0.05], dtype=torch.float64)).tolist()
    grid = schedule.inverse(torch.linspace(*ends, steps + 1, dtype=torch.float64)).tolist()

    class Between(kind):
        def path(self, schedule: Schedule) -> list[tuple[float, float]]:
            return list(pairwise(grid))

    (top, wide), (mean, spread) = (marginal(made.process, times(t), draws(0)) for t in (grid[0], grid[-1]))
    m = 0.0 if made.process.mean is None else made.process.mean
    x = Between().sample(made, FREE, lambda k: top + wide * draws(k) - m)  # the sampler adds m to its start
    return float((x - mean - spread * draws(0)).abs().max())


@around
def test_the_order_of_the_solvers(shifted: bool) -> None:
    """Halving the steps divides the error by 2 and by 4."""
    for kind, order in ((Ddim, 1.0), (DpmSolverPp2m, 2.0)):
        errors = torch.tensor([error(kind, steps, shifted) for steps in (20, 40, 80)])
        found = torch.log2(errors[:-1] / errors[1:])
        assert_close(found, torch.full((2,), order), rtol=0, atol=0.2)
    assert error(DpmSolverPp2m, 40, shifted) < 0.2 * error(Ddim, 40, shifted)


@around
@pytest.mark.parametrize(
    ("spec", "bias"),
    [  # the small variance is too small by the order of a step
        ({"name": "ddim", "steps": 80, "eta": 0.5}, 0.15),
        ({"name": "ancestral", "steps": 80, "variance": "small"}, 0.15),
        ({"name": "ancestral", "steps": 80}, 0.03),
        ({"name": "ancestral", "grid": "ddim80"}, 0.03),
    ],
    ids=str,
)
def test_stochastic_samplers_draw_from_the_data(shifted: bool, spec: dict[str, Any], bias: float) -> None:
    made = denoiser(shifted)
    lowest = times(made.process.noise_schedule.t_min)
    x = from_spec(samplers.registry, spec).sample(made, FREE, draws)
    n = x.numel()
    alpha, (_, spread) = made.process.alpha(lowest, x), marginal(made.process, lowest, x)
    std = float((alpha * VARIANCE / spread)[0])  # of E[x0 | x_t] at the last call
    assert float(x.mean()) == pytest.approx(MU, abs=4 * std / n**0.5 + 0.01)
    assert float(x.std()) == pytest.approx(std, rel=4 / (2 * n) ** 0.5 + bias)


@around
def test_full_eta_is_ancestral_sampling_with_the_small_variance(shifted: bool) -> None:
    made = denoiser(shifted)
    found = [
        from_spec(samplers.registry, spec).sample(made, FREE, draws)
        for spec in ({"name": "ddim", "steps": 20, "eta": 1.0}, {"name": "ancestral", "steps": 20, "variance": "small"})
    ]
    assert_close(*found, rtol=1e-9, atol=1e-9)


@around
def test_legacy_steps_of_one_index_are_ddim(shifted: bool) -> None:
    found = [
        from_spec(samplers.registry, {"name": name, "steps": 40}).sample(denoiser(shifted, 40), FREE, draws)
        for name in ("ddim", "ddim_legacy")
    ]
    assert_close(*found, rtol=1e-9, atol=1e-9)
