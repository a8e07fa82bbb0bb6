"""Regression to the teacher's own samples."""

from typing import ClassVar

from pydantic import Field

from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms
from dlkit.objectives._terms import fitted


@register(
    "ode_regression",
    description="regression to the teacher's deterministic samples from the same noise: a warm start for another stage",
    paper="Luhman & Luhman 2021 (arXiv 2101.02388); DMD (arXiv 2311.18828) also regresses on such pairs",
)
class OdeRegression(Objective):
    """mean |G(z) - x0(z)|^2 over generated elements, x0(z) where DDIM with few steps takes the noise z.

    To it comes the cross-entropy of the tokens of x0(z) under the logits of G(z), if it has a weight: between two texts
    the square error asks for their mean, this for either.

    At its start a student that is asked at t = 1 writes the same text for every z, and score distillation then spreads
    it from one mode. Regression first makes it follow z.

    Attributes:
        pairs: teacher samples that are made before the first update: for the first sources of a shuffled epoch, and for
            those of further epochs, with other noise, if there are more pairs than sources.
        steps: DDIM steps of each.
        rounding: replace every prediction on their way by its nearest embedding, as DiffuSeq's sampler does.
        tokens: weight of the tokens' cross-entropy.
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset(), data="teacher_samples")

    pairs: int = Field(default=2048, ge=1, le=2**24)
    steps: int = Field(default=4, ge=1)
    rounding: bool = False
    tokens: float = Field(default=0.0, ge=0)

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        assert fake.target is not None  # promised by needs.data
        return fitted(fake.x0, fake.target, fake.cond.mask, roles.space, self.tokens)

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {}
