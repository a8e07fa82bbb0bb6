"""An objective."""

from typing import ClassVar

from pydantic import Field

from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms


@register("starter", description="DMD's gradient as a regression", paper="Yin et al. 2024 (arXiv 2311.18828)")
class Starter(Objective):
    """|e - stop(e + step (x0_teacher - x0_fake))|^2 / 2, a mean over generated elements.

    Attributes:
        step: how far towards the teacher the target lies.
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset({"teacher", "fake_score"}))

    step: float = Field(default=1.0, gt=0.0)

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        gap = roles.teacher(fake, graph=False).x0 - roles.fake_score(fake, graph=False).x0
        target = (fake.x0 + self.step * gap).detach()
        return {"starter": denoising_mse(fake.x0, target, fake.cond.mask).mean() / 2}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {"denoising": denoising_mse(roles.fake_score(fake).x0, fake.x0, fake.cond.mask).mean()}
