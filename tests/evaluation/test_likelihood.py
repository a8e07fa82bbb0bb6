"""The bound of -log p(text), against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.time_samplers.vlb import VlbTimes
from dlkit.errors import UserError
from dlkit.evaluation.likelihood import bound
from dlkit.spaces.unit_norm import UnitNormSpace
from dlkit.teachers._base import FitBatch
from dlkit.teachers.plaid import Plaid

P = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05], dtype=torch.float64)
DIM, GAMMA_0, GAMMA_1 = 2, -1.5, 2.5


class Unigram(nn.Module):
    """Knows how frequent each token is, and nothing of the others: exact where tokens are independent."""

    own_logits, self_conditions, feature_dim = True, True, 1

    def __init__(self, q: Tensor) -> None:
        super().__init__()
        self.q = q

    def forward(self, x: Tensor, time: Tensor, taps: object = None, **more: object) -> tuple[Tensor, None]:
        return self.q.log().to(x.dtype).expand(*x.shape[:2], len(self.q)), None


def language(q: Tensor, curved: bool) -> Denoiser:
    """Five independent tokens on the unit circle; noise from much to more, so that every term of the bound counts."""
    schedule = {"name": "learned_gamma", "gamma_0": GAMMA_0, "gamma_1": GAMMA_1, "hidden": 8}
    space = UnitNormSpace(len(P), DIM)
    angles = torch.tensor([0.0, 1.1, 2.0, 3.5, 5.0])
    space.matrix.data = torch.stack((angles.cos(), angles.sin()), 1) * torch.tensor([1.0, 0.3, 2.0, 5.0, 0.7])[:, None]
    process = GaussianProcess.model_validate({"schedule": schedule})
    torch.manual_seed(3)
    denoiser = Denoiser(space, process, Unigram(q), "prior_logits").double()
    denoiser.schedule.W1.data *= 3.0 if curved else 0.0  # type: ignore[union-attr]
    return denoiser.eval()


def texts(rows: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.multinomial(P, rows * length, replacement=True, generator=generator).view(rows, length)


def closed_form(q: Tensor) -> float:
    """-sum p log q + KL(p(z_1) || N(0, I)) - KL(p(z_1) || q(z_1)), z_1 by a sum over a fine grid.

    By the I-MMSE relation (Guo, Shamai & Verdu 2005) and its form for a wrong prior (Verdu 2010) half the integral of
    the excess of the squared error over the SNR is a difference of divergences; the reconstruction's is what is left
    to the divergence of the tokens. What z_1 still tells is the last term's, and the prior's loss is the first's.
    """
    alpha, sigma = math.sqrt(1 / (1 + math.exp(GAMMA_1))), math.sqrt(1 / (1 + math.exp(-GAMMA_1)))
    angles = torch.tensor([0.0, 1.1, 2.0, 3.5, 5.0], dtype=torch.float64)
    means = alpha * torch.stack((angles.cos(), angles.sin()), 1)
    line = torch.linspace(-8.0, 8.0, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    kernel = torch.exp(-((grid[:, None] - means) ** 2).sum(-1) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    standard = torch.exp(-(grid**2).sum(-1) / 2) / (2 * math.pi)
    true, believed = kernel @ P, kernel @ q
    cell = float(line[1] - line[0]) ** 2
    divergence = lambda other: float((true * (true / other).log()).nan_to_num().sum()) * cell  # noqa: E731
    return float(-(P * q.log()).sum()) + divergence(standard) - divergence(believed)


QS = [P, torch.tensor([0.1, 0.1, 0.2, 0.3, 0.3], dtype=torch.float64)]


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("q", QS, ids=["true", "wrong"])
def test_the_bound_of_a_toy_language_is_its_closed_form(q: Tensor, curved: bool) -> None:
    denoiser, ids = language(q, curved), texts(640, 60)
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(*ids.shape, DIM, generator=generator, dtype=torch.float64) for _ in range(2)]
    t = 0.001 + 0.999 * (torch.arange(640) + torch.rand(640, generator=generator, dtype=torch.float64)) / 640
    terms = bound(denoiser, ids, torch.ones_like(ids, dtype=torch.bool), t, (noise[0], noise[1]))
    rows = torch.stack(list(terms.values())).sum(0) / ids.shape[1]
    held_back = float((-(P * q.log()).sum()) + (q.log()[ids]).mean())  # that these texts are not quite of P
    error = float(rows.diff().std()) / (2 * len(rows)) ** 0.5  # neighbours have nearly the same time
    assert error < 0.01
    assert float(rows.mean()) + held_back == pytest.approx(closed_form(q), abs=4 * error)


def test_without_noise_at_the_end_nothing_but_the_entropy_is_left() -> None:
    """The closed form itself: with z_1 near pure noise it is the cross-entropy of the tokens."""
    assert closed_form(QS[1]) == pytest.approx(float(-(P * QS[1].log()).sum()), abs=0.02)
    assert closed_form(P) == pytest.approx(float(-(P * P.log()).sum()), abs=0.02)


def test_the_weighted_loss_of_the_family_is_the_same_bound() -> None:
    """The mean over batches of what a fit minimises, with the times and the weights of ``vlb``."""
    denoiser, family = language(P, True), Plaid(self_condition=0.5, bias_warmup=0, split=0.0)
    times = VlbTimes().start(denoiser.process.noise_schedule)
    found = []
    for k in range(24):
        generator = torch.Generator().manual_seed(k)
        ids = torch.multinomial(P, 512 * 20, replacement=True, generator=generator).view(512, 20)
        t, weight = times.draw(torch.rand(512, generator=generator, dtype=torch.float64))
        batch = FitBatch(
            ids=ids,
            mask=torch.ones_like(ids, dtype=torch.bool),
            t=t,
            normal=lambda name, g=generator: torch.randn(512, 20, DIM, generator=g, dtype=torch.float64),
            uniform=lambda name, *shape, g=generator: torch.rand(512, *shape, generator=g, dtype=torch.float64),
            weight=weight,
        )
        terms = family.losses(denoiser, batch)
        times.observe(t, torch.stack(list(terms.values())).sum(0))
        found.append(sum(float((weight * term).mean().detach()) for term in terms.values()))
    rows = torch.tensor(found)
    error = float(rows.std()) / len(rows) ** 0.5
    assert error < 0.01
    assert float(rows.mean()) == pytest.approx(closed_form(P), abs=4 * error)
    assert float(times.share()) != 0.125


def test_what_the_bound_is_not_known_for_is_refused() -> None:
    from dlkit.evaluation.likelihood import _refuse_other_processes

    with pytest.raises(UserError, match="keep the variance around 0, not for 'gaussian' with the schedule 'karras'"):
        _refuse_other_processes(GaussianProcess.model_validate({"schedule": "karras"}))
