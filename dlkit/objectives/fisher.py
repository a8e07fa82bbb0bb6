"""The Fisher divergence, taken naively."""

from dlkit.kernels.score_distillation import Reduction, sample_scale
from dlkit.objectives import register
from dlkit.objectives._base import Noised, Roles, Terms
from dlkit.objectives._matching import Matching, Weight, split_weight


@register(
    "fisher",
    description="squared gap of teacher and fake score, as if the fake score did not depend on the student: a baseline",
    paper="DLM-One (arXiv 2506.00290), eq. 2; why it fails: Zhou et al. 2024, SiD (arXiv 2404.04057)",
)
class Fisher(Matching):
    """w |x0_teacher - x0_fake|^2 with gradients through the inputs of both networks.

    The true loss (2) has a fake score that changes with the student; this gradient leaves that out and is therefore
    biased. With Gaussian teacher and student, variances V and U after noising, descent moves along a direction by

        d mean / d tau ~ (m_teacher - m_student) (1/V - 1/U)        d std / d tau ~ -std (1/U - 1/V)^2

    The student only ever narrows. One that is too wide comes to the teacher's spread, and its mean to the teacher's on
    the way; one of the right spread keeps any mean; one that is too narrow collapses while its mean runs away. It is
    here as the baseline that ``sid`` improves on, not to be used.

    Attributes:
        weight: l1, snr, kl, kl_sigma2 or none.
        reduction: mean, token_mean or sum.
    """

    weight: Weight = "l1"
    reduction: Reduction = "mean"

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        teacher, fake_score, mask = roles.teacher(fake).x0, roles.fake_score(fake).x0, fake.cond.mask
        kernel, sample_weight = split_weight(self.weight, roles.process, fake.t)
        scale = sample_scale(fake.x0, teacher, mask, kernel, self.reduction, sample_weight)
        gap = (teacher.to(scale.dtype) - fake_score.to(scale.dtype)) * mask[..., None]
        return {"fisher": (scale * gap.square()).sum()}
