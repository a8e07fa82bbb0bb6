"""What the objectives that match teacher and fake score have in common."""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.kernels.score_distillation import Reduction, score_distillation
from dlkit.kernels.score_distillation import Weight as KernelWeight
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms

Weight = Literal["l1", "snr", "kl", "kl_sigma2", "none"]


class Matching(Objective):
    """An objective of teacher and fake score, where the fake score learns by denoising generated text."""

    needs: ClassVar[Needs] = Needs(roles=frozenset({"teacher", "fake_score"}))

    @abstractmethod
    def generator_terms(self, roles: Roles, fake: Noised) -> Terms: ...

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {"denoising": denoising_mse(roles.fake_score(fake).x0, fake.x0, fake.cond.mask).mean()}

    def matched(
        self,
        roles: Roles,
        fake: Noised,
        weight: Weight,
        reduction: Reduction,
        *,
        mu: float = 1.0,
        detach_scores: bool = True,
        factor: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """The score-distillation kernel on the two roles; detached, dL/dx = w factor (x0_fake - x0_teacher)."""
        kernel, sample_weight = split_weight(weight, roles.process, fake.t)
        if factor is not None:
            sample_weight = factor if sample_weight is None else _times(sample_weight.to(factor), factor)
        return score_distillation(
            fake.x0,
            roles.teacher(fake, not detach_scores).x0,
            roles.fake_score(fake, not detach_scores).x0,
            fake.cond.mask,
            mu=mu,
            weight=kernel,
            reduction=reduction,
            detach_scores=detach_scores,
            sample_weight=sample_weight,
        )


def _times(weight: Float[Tensor, "b *l"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b *l"]:
    """A factor of each sample on all that belongs to it."""
    return weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))


@torch.no_grad()
def split_weight(
    weight: Weight, process: GaussianProcess, t: Float[Tensor, " b"]
) -> tuple[KernelWeight, Float[Tensor, "b *l"] | None]:
    """A weight as the kernel's own and a factor of each sample, or of its positions where they differ in noise.

    By Tweedie, (alpha / sigma^2) (x0_fake - x0_teacher) is a difference of scores, and dx_t / dx = alpha. So

        kl         alpha^2 / sigma^2: DMD's gradient is that of int KL(student_t | teacher_t) dt
        kl_sigma2  alpha^2: that of int sigma_t^2 KL dt, bounded near clean text
        snr        min(1, alpha^2 / sigma^4): SiD's natural weight at high noise, bounded near clean text
        l1, none   the kernel's
    """
    if weight == "l1" or weight == "none":
        return weight, None
    alpha2, sigma2 = process.noise_schedule.alpha(t).square(), process.noise_schedule.sigma(t).square()
    if weight == "snr":
        return "none", (alpha2 / sigma2.square()).clamp(max=1.0)
    return "none", alpha2 if weight == "kl_sigma2" else alpha2 / sigma2
