"""Diff-Instruct: the integral of the reverse KL divergence over noise levels."""

from typing import Literal

from dlkit.kernels.score_distillation import Reduction
from dlkit.objectives import register
from dlkit.objectives._base import Noised, Roles, Terms
from dlkit.objectives._matching import Matching


@register(
    "diff_instruct",
    description="reverse KL divergence, integrated over noise levels with a chosen weight of time",
    paper="Luo et al. 2023, Diff-Instruct (arXiv 2305.18455)",
)
class DiffInstruct(Matching):
    """IKL = int w(t) KL(student_t | teacher_t) dt, whose gradient is

        E[ w(t) (s_fake - s_teacher) . dx_t/dtheta ] = E[ w(t) (alpha/sigma)^2 (x0_fake - x0_teacher) . dx/dtheta ]

    The integral is over the times that the Recipe's ``time_sampler`` draws. No gradient passes through the networks.
    The value of the loss means nothing: only its gradient is defined.

    Attributes:
        weight: kl_sigma2 is w(t) = sigma_t^2, bounded near clean text; kl is w(t) = 1, which is steep there.
        reduction: mean, token_mean or sum.
    """

    weight: Literal["kl_sigma2", "kl"] = "kl_sigma2"
    reduction: Reduction = "mean"

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {"diff_instruct": self.matched(roles, fake, self.weight, self.reduction)}
