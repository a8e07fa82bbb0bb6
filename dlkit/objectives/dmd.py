"""Distribution matching distillation."""

from dlkit.kernels.score_distillation import Reduction
from dlkit.objectives import register
from dlkit.objectives._base import Noised, Roles, Terms
from dlkit.objectives._matching import Matching, Weight


@register(
    "dmd",
    description="moves the student's output from the fake score's estimate to the teacher's; sid with detached scores",
    paper="Yin et al. 2024, DMD (arXiv 2311.18828), and DMD2 (arXiv 2405.14867)",
)
class Dmd(Matching):
    """dL/dx = w (x0_fake - x0_teacher): the gradient of KL(student_t | teacher_t), weighted.

    No gradient passes through the two networks, which saves two backward passes beside ``sid``. The gradient is that of
    ``sid`` with ``detach_scores``, bit for bit, whatever its mu. DMD2 adds an adversary (``adv``) and five critic
    updates for each of the generator; DMD a regression (``ode_regression``, a stage before) and another factor alpha_t.

    The value of the loss means nothing: only its gradient is defined.

    Attributes:
        weight: l1 is the paper's normaliser, 1 / mean |x - x0_teacher|; or snr, kl, kl_sigma2, none.
        reduction: mean, token_mean or sum.
    """

    weight: Weight = "l1"
    reduction: Reduction = "mean"

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {"dmd": self.matched(roles, fake, self.weight, self.reduction)}
