"""Moment matching distillation, alternating form."""

from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.kernels.score_distillation import Reduction
from dlkit.objectives import register
from dlkit.objectives._base import Noised, Roles, Terms
from dlkit.objectives._matching import Matching, Weight


@register(
    "moment_matching",
    description="DMD's gradient with a critic that is also held near the teacher",
    paper="Salimans et al. 2024, Multistep Distillation of Diffusion Models via Moment Matching (arXiv 2406.04103)",
)
class MomentMatching(Matching):
    """Critic: |x0_fake - x|^2 + |x0_fake - x0_teacher|^2. Generator: dL/dx = w (x0_fake - x0_teacher).

    The critic's optimum is (E[x | x_t] + x0_teacher) / 2, half way between the student's denoiser and the teacher's, so
    the generator's gradient is half of ``dmd``'s and vanishes where E[x | x_t] = x0_teacher: where student and teacher
    have the same first moment given every x_t. A critic that is pulled back does not run away from the teacher.

    The value of the generator's loss means nothing: only its gradient is defined.

    Attributes:
        weight: none, l1, snr, kl or kl_sigma2.
        reduction: mean, token_mean or sum.
    """

    weight: Weight = "none"
    reduction: Reduction = "mean"

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {"moment_matching": self.matched(roles, fake, self.weight, self.reduction)}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        critic, teacher = roles.fake_score(fake).x0, roles.teacher(fake, graph=False).x0.to(fake.x0.dtype)
        return {
            "denoising": denoising_mse(critic, fake.x0, fake.cond.mask).mean(),
            "teacher": denoising_mse(critic, teacher, fake.cond.mask).mean(),
        }
