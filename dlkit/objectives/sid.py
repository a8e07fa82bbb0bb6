"""Score identity distillation."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from dlkit.kernels.score_distillation import Reduction, Weight, score_distillation
from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms
from dlkit.objectives._terms import denoising


@register(
    "sid",
    description="matches teacher and fake score through their inputs; with detach_scores it is DMD's gradient",
    paper="Zhou et al. 2024, Score identity Distillation (arXiv 2404.04057); DLM-One (arXiv 2506.00290), eq. 3-4",
)
class Sid(Objective):
    """DLM-One's loss (4): (1 - mu) w |d|^2 + w d.(x0_fake - e), d = x0_teacher - x0_fake.

    See :func:`dlkit.kernels.score_distillation.score_distillation` for weights, reductions and gradients.

    Attributes:
        mu: weight of the bias correction. It does not transfer between data sets.
        weight: l1, snr or none.
        reduction: mean, token_mean or sum.
        detach_scores: no gradient through the inputs of the two networks, which leaves the gradient of DMD.
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset({"teacher", "fake_score"}))

    mu: float = 1.2
    weight: Weight = "l1"
    reduction: Reduction = "mean"
    detach_scores: bool = False

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        graph = not self.detach_scores
        loss = score_distillation(
            fake.x0,
            roles.teacher(fake, graph).x0,
            roles.fake_score(fake, graph).x0,
            fake.cond.mask,
            mu=self.mu,
            weight=self.weight,
            reduction=self.reduction,
            detach_scores=self.detach_scores,
            snr_weight=snr_weight(roles, fake) if self.weight == "snr" else None,
        )
        return {"sid": loss}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {"denoising": denoising(roles.fake_score(fake).x0, fake.x0, fake.cond.mask).mean()}


def snr_weight(roles: Roles, noised: Noised) -> Float[Tensor, " b"]:
    """omega_t alpha_t^2 / sigma_t^4, with omega_t chosen so that the weight is min(1, alpha_t^2 / sigma_t^4).

    The paper leaves omega_t open. This choice keeps the natural weight at high noise and bounds it near clean text.
    """
    schedule = roles.process.noise_schedule
    natural = schedule.alpha(noised.t).square() / schedule.sigma(noised.t).pow(4)
    return natural.clamp(max=1.0)
