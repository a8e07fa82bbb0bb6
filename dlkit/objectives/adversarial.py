"""The adversarial term."""

from typing import ClassVar, Literal, Self

from jaxtyping import Float
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit import discriminators
from dlkit.discriminators._base import Head, WithCondition
from dlkit.kernels.adversarial_bce import adversarial_bce
from dlkit.objectives import register
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms
from dlkit.objectives._terms import per_sample, wide
from dlkit.part import part_of

Loss = Literal["non_saturating", "hinge", "least_squares"]


@register(
    "adversarial",
    description="a head on a network's features tells noised real text from noised generated text",
    paper="DLM-One (arXiv 2506.00290), eq. 5-6; Wang et al. 2023, Diffusion-GAN (arXiv 2206.02262)",
)
class Adversarial(Objective):
    """A discriminator D on noised states, and the student that is to deceive it.

    Real and generated text are noised at times of the same distribution. Every expectation is a mean over the batch of
    each sample's logit, or of the mean over its generated positions where the head has a logit for each.

        loss            critic                                                  generator
        non_saturating  (softplus(-D(real)) + softplus(D(fake))) / 2            softplus(-D(fake))
        hinge           (relu(1 - D(real)) + relu(1 + D(fake))) / 2             -D(fake)
        least_squares   ((D(real) - 1)^2 + D(fake)^2) / 2                       (D(fake) - 1)^2 / 2

    The first is binary cross-entropy, whose optimal logit is log(p_real / p_generated) (Goodfellow et al. 2014, arXiv
    1406.2661); hinge: Lim & Ye 2017 (1705.02894); least squares: Mao et al. 2017 (1611.04076).

    Penalties keep D smooth: the critic's loss gets r1 |D(real) - D(real + s n)|^2 + r2 |D(fake) - D(fake + s n)|^2 with
    n ~ N(0, I) added to the noised state. For a small s this is r s^2 |grad D|^2: R1 and R2 of Mescheder et al. 2018
    (1801.04406) without a second derivative (Lin et al. 2025, 2501.08316). For their gamma / 2 take gamma / (2 s^2).

    Features of the fake score are trained by the critic's loss along with the head; those of the teacher never are. A
    Recipe holds these settings as ``adv``; with ``objective: adversarial`` there is nothing beside it, a GAN alone.

    Attributes:
        head: the discriminator's head.
        features: whose hidden states the head reads, fake_score or teacher.
        taps: after which layers; negative counts from the end. Several layers are put side by side.
        condition: the head sees the mean feature of the given positions beside those of each position.
        loss: non_saturating, hinge or least_squares.
        r1, r2: weights of the penalties at real and generated text.
        penalty_noise: s, in units of the noised states.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    needs: ClassVar[Needs] = Needs(roles=frozenset({"discriminator"}), data="real")
    is_adversary: ClassVar[bool] = True

    head: part_of(discriminators.registry) = "mean_pool"  # type: ignore[valid-type]
    features: Literal["fake_score", "teacher"] = "fake_score"
    taps: tuple[int, ...] = Field(default=(-1,), min_length=1)
    condition: bool = False
    loss: Loss = "non_saturating"
    r1: float = Field(default=0.0, ge=0)
    r2: float = Field(default=0.0, ge=0)
    penalty_noise: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if self.features == "teacher" and not self.head.learns:
            raise ValueError(
                f"head {self.head.registered_name!r} has no parameters and features of the teacher never learn; "
                "set features=fake_score or another head"
            )
        return self

    @property
    def logit_is_log_ratio(self) -> bool:
        """Whether the best logit is log(p_real / p_generated)."""
        return self.loss == "non_saturating"

    def build_head(self, feature_dim: int) -> nn.Module:
        """The head for a network whose layers have features of that width."""
        head: Head = self.head  # type: ignore[assignment]
        width = feature_dim * len(self.taps)
        return WithCondition(head.build(2 * width)) if self.condition else head.build(width)

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {"adversarial": self._mean(generator_loss(roles.discriminator(fake), self.loss), fake)}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        assert real is not None  # promised by needs.data
        on_real, on_fake = roles.discriminator(real), roles.discriminator(fake)
        told_apart = self._mean(critic_loss(on_real, True, self.loss), real)
        told_apart = told_apart + self._mean(critic_loss(on_fake, False, self.loss), fake)
        terms = {"adversarial": told_apart / 2}
        if self.r1:
            terms["r1"] = self.r1 * self._roughness(roles, real, on_real, "r1")
        if self.r2:
            terms["r2"] = self.r2 * self._roughness(roles, fake, on_fake, "r2")
        return terms

    def _roughness(self, roles: Roles, noised: Noised, logits: Float[Tensor, "b *l"], name: str) -> Float[Tensor, ""]:
        """E |D(x_t) - D(x_t + s n)|^2."""
        moved = roles.discriminator(noised.perturbed(name, self.penalty_noise))
        return self._mean((wide(logits) - wide(moved)).square(), noised)

    def _mean(self, values: Float[Tensor, "b *l"], noised: Noised) -> Float[Tensor, ""]:
        return per_sample(values, noised.cond.mask).mean()


def critic_loss(logits: Float[Tensor, "b *l"], real: bool, loss: Loss) -> Float[Tensor, "b *l"]:
    """What the critic pays for each logit of a text that is real, or is not; float32 or better."""
    sign, logits = (1.0 if real else -1.0), wide(logits)
    match loss:
        case "non_saturating":
            return adversarial_bce(logits, real)
        case "hinge":
            return F.relu(1 - sign * logits)
        case "least_squares":
            return (logits - float(real)).square()


def generator_loss(logits: Float[Tensor, "b *l"], loss: Loss) -> Float[Tensor, "b *l"]:
    """What the student pays for each logit of its texts; float32 or better."""
    logits = wide(logits)
    match loss:
        case "non_saturating":
            return adversarial_bce(logits, True)
        case "hinge":
            return -logits
        case "least_squares":
            return (logits - 1).square() / 2
