"""The adversarial term."""

from typing import ClassVar, Literal

from pydantic import ConfigDict

from dlkit import discriminators
from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms
from dlkit.objectives._terms import logistic
from dlkit.part import part_of


@register(
    "adversarial",
    description="a head on the fake score's features tells noised real text from noised generated text",
    paper="DLM-One (arXiv 2506.00290), eq. 5-6; Wang et al. 2023, Diffusion-GAN (arXiv 2206.02262)",
)
class Adversarial(Objective):
    """Critic: (BCE(D(real_t), 1) + BCE(D(fake_t), 0)) / 2. Generator: BCE(D(fake_t), 1).

    Real and generated text are noised at times of the same distribution. The critic's loss also trains the network that
    the features come from.

    Attributes:
        head: the discriminator's head.
        features: whose hidden states the head reads.
        tap: after which layer; negative counts from the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    needs: ClassVar[Needs] = Needs(roles=frozenset({"fake_score", "discriminator"}), data="real")

    head: part_of(discriminators.registry) = "mean_pool"  # type: ignore[valid-type]
    features: Literal["fake_score"] = "fake_score"
    tap: int = -1

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {"adversarial": logistic(roles.discriminator(fake), real=True)}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        assert real is not None  # promised by needs.data
        on_real = logistic(roles.discriminator(real), real=True)
        on_fake = logistic(roles.discriminator(fake), real=False)
        return {"adversarial": (on_real + on_fake) / 2}
