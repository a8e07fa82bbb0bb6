"""Score implicit matching."""

from typing import ClassVar

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms


@register(
    "sim",
    description="the distance of the scores counts by its pseudo-Huber norm, so that far-off samples do not dominate",
    paper="Luo et al. 2024, One-Step Diffusion Distillation through Score Implicit Matching (arXiv 2410.16794)",
)
class Sim(Objective):
    """mean over samples of <d . r> / sqrt(<d . d> + c^2), d = x0_teacher - x0_fake, r = x0_fake - e.

    <.> is the mean over generated elements. This is the paper's loss for the pseudo-Huber distance, with the distance
    taken between predictions of x0 instead of scores, from which it differs by a weight in t. Gradients pass through
    the inputs of both networks.

    Attributes:
        c: distances well below it count squared, those above it as they are; in units of an embedding's coordinate.
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset({"teacher", "fake_score"}))

    c: float = Field(default=0.1, gt=0.0)

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        x0_fake = roles.fake_score(fake).x0
        return {"sim": implicit_matching(fake.x0, roles.teacher(fake).x0, x0_fake, fake.cond.mask, self.c)}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {"denoising": denoising_mse(roles.fake_score(fake).x0, fake.x0, fake.cond.mask).mean()}


def implicit_matching(
    x: Float[Tensor, "b l d"],
    x0_teacher: Float[Tensor, "b l d"],
    x0_fake: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    c: float,
) -> Float[Tensor, ""]:
    """The loss of :class:`Sim`; a sample without generated positions counts as zero."""
    keep = mask[..., None].to(x.dtype)
    d, r = (x0_teacher - x0_fake) * keep, (x0_fake - x) * keep
    elements = (keep.sum((1, 2)) * x.shape[-1]).clamp_min(1.0)
    product, squared = (d * r).sum((1, 2)) / elements, d.square().sum((1, 2)) / elements
    return (product / (squared + c * c).sqrt()).mean()
