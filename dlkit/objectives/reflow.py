"""Rectified-flow straightening."""

from typing import ClassVar

from pydantic import Field

from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms


@register(
    "reflow",
    description="denoising on the straight way from a noise to the teacher's text from it, so that few steps suffice",
    paper="Liu et al. 2022, Rectified Flow (arXiv 2209.03003); Zhang et al. 2024, Language Rectified Flow (2403.16995)",
)
class Reflow(Objective):
    """mean |G(alpha_t x0(z) + sigma_t z, t) - x0(z)|^2 over generated elements, x0(z) where DDIM takes the noise z.

    A denoiser trained on data with independent noise must answer with a mean, and its way from noise to text bends. In
    these pairs the text is a function of the noise. Where the ways do not cross, the best student answers x0(z) all
    along the way: DDIM with any number of steps then ends at x0(z), for any schedule.

    Times come from the stage's ``time_sampler``. At t = 1 the state is the noise itself, so ``t_init: 1.0`` asks the
    student where it was taught; ``ode_regression`` teaches it at ``t_init`` alone.

    Attributes:
        pairs: teacher samples that are made before the first update, for the first sources of a shuffled epoch.
        steps: DDIM steps of each.
        rounding: as for ``ode_regression``.
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset(), data="teacher_samples", path=True)

    pairs: int = Field(default=2048, ge=1, le=2**24)
    steps: int = Field(default=4, ge=1)
    rounding: bool = False

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        assert fake.target is not None  # promised by needs.data
        return {"reflow": denoising_mse(fake.x0, fake.target, fake.cond.mask).mean()}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {}
