"""f-divergence distillation: DMD's gradient, weighted by a density ratio."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.kernels.score_distillation import Reduction
from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Roles, Terms
from dlkit.objectives._matching import Matching, Weight
from dlkit.objectives._terms import per_sample, wide

Divergence = Literal[
    "reverse_kl", "forward_kl", "jensen_shannon", "softened_reverse_kl", "neyman", "squared_hellinger", "jeffreys"
]
LARGEST_LOGIT = 10.0
RATIOS = (0.1, 20.0)
BINS = 10


@register(
    "f_distill",
    description="DMD's gradient times h(r) of an f-divergence, r the density ratio that the discriminator estimates",
    paper="Xu et al. 2025, One-step Diffusion Models with f-Divergence Distribution Matching (arXiv 2502.15681)",
)
class FDistill(Matching):
    """dL/dx = h(r) w (x0_fake - x0_teacher), r = p_real(x_t) / p_student(x_t) = exp(logit).

    For D_f = E_student[ f(r) ] the weight is h(r) = r^2 f''(r), here up to a constant:

        reverse_kl           1          f = -log r               seeks modes; no ratio needed: diff_instruct, dmd
        softened_reverse_kl  1/(1+r)    f = (1+r) log((1+r)/2r)
        jensen_shannon       r/(1+r)    f = r log r - (1+r) log((1+r)/2)
        squared_hellinger    sqrt(r)    f = (1 - sqrt(r))^2
        forward_kl           r          f = r log r              covers modes; the weight varies most
        jeffreys             1+r        f = (r-1) log r          both KL divergences
        neyman               1/r        f = (1-r)^2 / r

    The logit is clamped to +-10 and the ratio to [0.1, 20]. A head with a logit for each position gives the mean over
    generated positions. Data stand in for the teacher's own texts in r, as in the paper. The discriminator comes from
    ``adv``, whose loss must be ``non_saturating``: the optimum of the others is no log-ratio.

    The value of the loss means nothing: only its gradient is defined. With Gaussian teacher and student, of variances V
    and U after noising, the mean goes home from everywhere. While it is off the spread may go the wrong way: forward_kl
    widens a student until U = V + alpha^2 (m_teacher - m_student)^2, jensen_shannon, squared_hellinger and jeffreys
    widen it less far, softened_reverse_kl and neyman narrow it.

    Attributes:
        divergence: one of the above.
        normalise: time_bins divides h by its mean over the batch's samples in the same tenth of time, then by its mean
            over the batch, so that h shares the gradient out among samples alike in noise and leaves its size alone.
            In a small batch a sample may be alone in its bin, and its h is then 1. none takes h as it is.
        weight: l1, snr, kl, kl_sigma2 or none.
        reduction: mean, token_mean or sum.
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset({"teacher", "fake_score", "discriminator"}), log_ratio=True)

    divergence: Divergence = "jensen_shannon"
    normalise: Literal["time_bins", "none"] = "time_bins"
    weight: Weight = "l1"
    reduction: Reduction = "mean"

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        logit = per_sample(wide(roles.discriminator(fake).detach()), fake.cond.mask)
        h = weight_of_ratio(density_ratio(logit), self.divergence)
        if self.normalise == "time_bins":
            h = normalised(h, fake.t)
        return {"f_distill": self.matched(roles, fake, self.weight, self.reduction, factor=h)}


def density_ratio(logit: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """r = exp(logit), kept within bounds."""
    return logit.clamp(-LARGEST_LOGIT, LARGEST_LOGIT).exp().clamp(*RATIOS)


def weight_of_ratio(r: Float[Tensor, " b"], divergence: Divergence) -> Float[Tensor, " b"]:
    """h(r) = r^2 f''(r) up to a constant; see :class:`FDistill`."""
    match divergence:
        case "reverse_kl":
            return torch.ones_like(r)
        case "forward_kl":
            return r
        case "jensen_shannon":
            return r / (1 + r)
        case "softened_reverse_kl":
            return 1 / (1 + r)
        case "neyman":
            return 1 / r
        case "squared_hellinger":
            return r.sqrt()
        case "jeffreys":
            return 1 + r


def normalised(h: Float[Tensor, " b"], t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """h over its mean in the same tenth of time, then over its mean in the batch."""
    bins = (t * BINS).long().clamp(0, BINS - 1)
    totals = h.new_zeros(BINS).index_add(0, bins, h)
    counts = h.new_zeros(BINS).index_add(0, bins, torch.ones_like(h))
    h = h / (totals / counts.clamp_min(1))[bins]
    return h / h.mean()
