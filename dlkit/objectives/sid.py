"""Score identity distillation."""

from dlkit.kernels.score_distillation import Reduction
from dlkit.objectives import register
from dlkit.objectives._base import Noised, Roles, Terms
from dlkit.objectives._matching import Matching, Weight


@register(
    "sid",
    description="matches teacher and fake score through their inputs; with detach_scores it is DMD's gradient",
    paper="Zhou et al. 2024, Score identity Distillation (arXiv 2404.04057); DLM-One (arXiv 2506.00290), eq. 3-4",
)
class Sid(Matching):
    """DLM-One's loss (4): (1 - mu) w |d|^2 + w d.(x0_fake - e), d = x0_teacher - x0_fake.

    See :func:`dlkit.kernels.score_distillation.score_distillation` for reductions and gradients. With an exact fake
    score and Gaussian teacher and student, of variances V and U after noising, descent moves along a direction by

        d mean / d tau ~ (m_teacher - m_student) [ (2 mu - 1) / U + 2 (1 - mu) / V ]
        d std / d tau  ~ std (1 / U - 1 / V) [ mu / U + (1 - mu) / V ]

    so with mu > 1 a student that is spread too wide is driven away: its mean if U > V (2 mu - 1) / (2 (mu - 1)), its
    spread if U > V mu / (mu - 1). At high noise U / V is near 1 and nothing goes wrong. With 0 <= mu < 1/2 it is the
    mean of a student that is too narrow, if U < V (1 - 2 mu) / (2 (1 - mu)).

    Attributes:
        mu: weight of the bias correction. It does not transfer between data sets.
        weight: l1, snr, kl, kl_sigma2 or none.
        reduction: mean, token_mean or sum.
        detach_scores: no gradient through the inputs of the two networks, which leaves the gradient of DMD.
    """

    mu: float = 1.2
    weight: Weight = "l1"
    reduction: Reduction = "mean"
    detach_scores: bool = False

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {
            "sid": self.matched(roles, fake, self.weight, self.reduction, mu=self.mu, detach_scores=self.detach_scores)
        }
