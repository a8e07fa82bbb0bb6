"""Predictions that are known in closed form against the score, which autograd finds in log p_t; all in float64.

E[x0 | x_t], E[eps | x_t] and what follows from them are conditional means; that they are linear in the score of p_t is
Tweedie's formula.
"""

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlkit.diffusion.parameterization import TARGETS, Target
from dlkit.diffusion.processes.gaussian import GaussianProcess
from noise_levels import PROCESSES, Coefficients, drawn, length_of

B, D, V = 2, 3, 7
SEEDS = st.integers(0, 10**6)
NEAR = st.floats(-9, -1).map(lambda power: 10.0**power)
TIMES = st.one_of(st.floats(0, 1), NEAR, NEAR.map(lambda t: 1 - t))
process_of = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
some = settings(max_examples=25)


@dataclass(frozen=True)
class Case:
    """A state, and what is known of it in closed form.

    Attributes:
        log_density: log p_t(x_t) up to a constant, with a graph back to x_t.
        means: the conditional mean given x_t of each parameterisation.
    """

    process: GaussianProcess
    t: Tensor
    x_t: Tensor
    log_density: Tensor
    means: dict[Target, Tensor]

    def check(self) -> None:
        """The score of autograd gives every mean, and every mean gives that score."""
        (score,) = torch.autograd.grad(self.log_density.sum(), self.x_t)
        x_t = self.x_t.detach()
        for kind, mean in self.means.items():
            agree(self.process.convert(score, x_t, self.t, "score", kind), mean, f"autograd's score to {kind}")
            agree(self.process.convert(mean, x_t, self.t, kind, "score"), score, f"{kind} to autograd's score")


def agree(found: Tensor, wanted: Tensor, what: str) -> None:
    """To 1e-8 of the largest element."""
    gap, size = float((found - wanted).abs().max()), float(wanted.abs().max())
    assert gap <= 1e-8 * size, f"{what}: {gap:.3g} off a value of {size:.3g}"


def randomness(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def at(process: GaussianProcess, time: float) -> tuple[Tensor, Coefficients]:
    """The times of a batch."""
    t = torch.full((B,), time, dtype=torch.float64)
    return t, Coefficients.of(process, t, torch.zeros(B, length_of(process), D))


def inside(process: GaussianProcess, time: float) -> bool:
    """Whether neither alpha nor sigma vanishes."""
    _, level = at(process, time)
    return float(level.alpha.min()) >= 1e-3 and float(level.sigma.min()) >= 1e-3


def gaussian(process: GaussianProcess, time: float, seed: int) -> Case:
    """x0 ~ N(m, S): x_t ~ N(alpha m, C), C = alpha^2 S + sigma^2, and all means follow from C^-1 (x_t - alpha m)."""
    (t, level), length = at(process, time), length_of(process)
    generator = randomness(seed)
    mean, root = normal(generator, D), normal(generator, D, D)
    covariance = root @ root.T + 0.1 * torch.eye(D)
    alpha, sigma = level.alpha[..., None], level.sigma[..., None]
    marginal = (alpha**2 * covariance + sigma**2 * torch.eye(D)).expand(B, length, D, D)
    cholesky = torch.linalg.cholesky(marginal)
    centre = level.alpha * mean
    x_t = (centre + (cholesky @ normal(generator, B, length, D, 1))[..., 0]).requires_grad_()
    density = torch.distributions.MultivariateNormal(centre.expand(B, length, D), scale_tril=cholesky)
    rest = torch.linalg.solve(marginal, (x_t.detach() - centre)[..., None])
    x0 = mean + (alpha * covariance @ rest)[..., 0]
    return Case(process, t, x_t, density.log_prob(x_t), level.everything(x0, level.sigma * rest[..., 0]))


def vocabulary(process: GaussianProcess, time: float, seed: int) -> tuple[Case, Tensor, Tensor]:
    """x0 is a row of a random table with random weights: what each row implies, averaged by its posterior weight.

    Also the logits of those weights, and the table.
    """
    (t, level), length = at(process, time), length_of(process)
    generator = randomness(seed)
    table, prior = normal(generator, V, D), normal(generator, V).log_softmax(0)
    picked = torch.multinomial(prior.exp(), B * length, replacement=True, generator=generator)
    clean = table[picked].reshape(B, length, D)
    x_t = (level.alpha * clean + level.sigma * normal(generator, B, length, D)).requires_grad_()
    implied = (x_t[:, :, None] - level.alpha[..., None] * table) / level.sigma[..., None]  # eps, had it been that row
    logits = prior - implied.square().sum(-1) / 2
    weights = logits.detach().softmax(-1)
    x0, eps = weights @ table, (weights[..., None] * implied.detach()).sum(2)
    return Case(process, t, x_t, logits.logsumexp(-1), level.everything(x0, eps)), logits.detach(), table


@pytest.mark.parametrize("name", PROCESSES)
@some
@given(data=st.data(), time=TIMES, seed=SEEDS)
def test_gaussian_data(name: str, data: st.DataObject, time: float, seed: int) -> None:
    process = data.draw(drawn(name))
    assume(inside(process, time))
    gaussian(process, time, seed).check()


@pytest.mark.parametrize("name", PROCESSES)
@some
@given(data=st.data(), time=TIMES, seed=SEEDS)
def test_finite_vocabulary(name: str, data: st.DataObject, time: float, seed: int) -> None:
    process = data.draw(drawn(name))
    assume(inside(process, time))
    case, logits, table = vocabulary(process, time, seed)
    case.check()
    for to in TARGETS:
        found = process.convert(logits.softmax(-1) @ table, case.x_t.detach(), case.t, "x0", to)
        agree(found, case.means[to], f"logits to {to}")


def nearest(process: GaussianProcess, end: float, name: str) -> tuple[float, float]:
    """A time whose alpha or sigma is below 1e-4 beside an end where it vanishes, and that value.

    Where one falls faster than any power, the next power of ten may be below what float64 can tell from 0: not that.
    """
    if bool(getattr(process.noise_schedule, name)(torch.full((B,), end).double()).any()):
        pytest.skip(f"{name} does not vanish there")
    times = (abs(end - 10.0**-power) for power in (*range(2, 16), *(k / 8 for k in range(16, 128))))
    found = ((t, float(getattr(at(process, t)[1], name).max())) for t in times)
    return next((t, value) for t, value in found if 1e-14 < value < 1e-4)


@process_of
def test_means_go_to_their_limit_at_clean_states(process: GaussianProcess) -> None:
    """From anything but eps itself: x0 is x_t / alpha, eps and v are nothing, for data with a density."""
    near, sigma = nearest(process, 0.0, "sigma")
    case, (end, level) = gaussian(process, near, 0), at(process, 0.0)
    x_t = case.x_t.detach()
    limits = {"x0": x_t / level.alpha, "eps": 0 * x_t, "v": 0 * x_t}
    for source, to in itertools.product(TARGETS, limits):
        given_ = x_t / level.alpha if source == "x0" else case.means[source]
        found = process.convert(given_, x_t, end, source, to)  # type: ignore[arg-type]
        torch.testing.assert_close(found, limits[to], rtol=0, atol=100 * sigma)
        torch.testing.assert_close(case.means[to], limits[to], rtol=0, atol=100 * sigma)


@process_of
def test_means_go_to_their_limit_at_pure_noise(process: GaussianProcess) -> None:
    """From what holds x0: x0 is the mean of the data, eps is x_t / sigma, and score and v follow."""
    near, alpha = nearest(process, 1.0, "alpha")
    case, (end, level) = gaussian(process, near, 0), at(process, 1.0)
    x_t = case.x_t.detach()
    sources: tuple[Target, ...] = ("x0", "v") if level.d_alpha.isinf().any() else ("x0", "v", "velocity")
    if not level.d_alpha.any():
        sources = ("x0", "v")  # a velocity without a rate of alpha does not hold x0
    for source, to in itertools.product(sources, ("x0", "eps", "v", "score")):
        found = process.convert(case.means[source], x_t, end, source, to)  # type: ignore[arg-type]
        torch.testing.assert_close(found, case.means[to], rtol=0, atol=100 * alpha)
    torch.testing.assert_close(case.means["eps"], x_t / level.sigma, rtol=0, atol=100 * alpha)
