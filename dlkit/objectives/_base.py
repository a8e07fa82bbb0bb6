"""What an objective is and what it may ask for."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from jaxtyping import Float
from torch import Tensor

from dlkit.denoiser import Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.part import Part
from dlkit.spaces._base import TokenSpace

Terms = dict[str, Float[Tensor, ""]]
ORIGIN = "origin"


@dataclass(frozen=True)
class Needs:
    """What an objective cannot do without; a Recipe refuses an objective whose needs are not met.

    Attributes:
        roles: any of "teacher", "fake_score", "discriminator".
        data: "none", "real" for texts of the data set, or "teacher_samples" for texts of the teacher from known noise.
            An objective that needs those has the settings ``pairs`` and ``steps`` of
            :class:`dlkit.objectives.ode_regression.OdeRegression`, and no critic learns in its stage.
        path: with the teacher's samples: the student is asked on the way from noise to text, not at the noise.
        log_ratio: the discriminator's logit must be log(p_real / p_generated), which not every adversary learns.
    """

    roles: frozenset[str]
    data: str = "none"
    path: bool = False
    log_ratio: bool = False

    @property
    def critic(self) -> bool:
        """Whether something must learn in the critic's turn."""
        return bool(self.roles & {"fake_score", "discriminator"})

    @property
    def regression(self) -> bool:
        """Whether it learns from the teacher's samples, alone in its stage."""
        return self.data == "teacher_samples"


@dataclass(frozen=True)
class Noised:
    """Clean states and their noised form.

    Attributes:
        x0: what was noised; in the generator's turn it carries the gradient to the generator.
        x_t: alpha x0 + sigma eps with the given positions held.
        t: times.
        cond: given positions.
        target: what x0 should be, where the data are the teacher's samples.
        noise: standard normals in the shape of x0, by the name of their use; a function of each sample alone.
            ``ORIGIN`` is the noise that a generated x0 was made from.
        memo: predictions made of this state, so that two objectives share one network call.
    """

    x0: Float[Tensor, "b l d"]
    x_t: Float[Tensor, "b l d"]
    t: Float[Tensor, " b"]
    cond: Condition
    target: Float[Tensor, "b l d"] | None = None
    noise: Callable[[str], Float[Tensor, "b l d"]] | None = None
    memo: dict[str, Any] = field(default_factory=dict)

    def perturbed(self, name: str, std: float) -> "Noised":
        """The same samples at the same times with more noise: x_t + std n, the given positions held.

        Raises:
            ValueError: the state came without ``noise``.
        """
        if self.noise is None:
            raise ValueError("this state cannot be perturbed: it came without a source of noise")
        return replace(self, x_t=self.cond.apply(self.x_t + std * self.noise(name).to(self.x_t.dtype)), memo={})


class Roles(Protocol):
    """The networks of a turn. Who is trainable in it is not the objective's business."""

    process: GaussianProcess
    space: TokenSpace

    def teacher(self, noised: Noised, graph: bool = True) -> Prediction:
        """The teacher's prediction; its parameters never get a gradient, nor does its input without ``graph``."""
        ...

    def fake_score(self, noised: Noised, graph: bool = True) -> Prediction:
        """The fake score's prediction: trainable in the critic's turn, frozen in the generator's.

        An objective that needs no gradient through its input says so with ``graph=False``.
        """
        ...

    def discriminator(self, noised: Noised) -> Float[Tensor, "b *l"]:
        """The head's logits of "real", one for each sample or for each position; frozen in the generator's turn."""
        ...


class Objective(Part):
    """A pair of losses: one for the generator's turn, one for the turn of the critic (fake score and head)."""

    needs: ClassVar[Needs]
    is_adversary: ClassVar[bool] = False  # it may be a Recipe's ``adv``, and then makes the discriminator's head

    @property
    def asks_origin(self) -> bool:
        """Whether it asks for ``noise(ORIGIN)``, which a student of one step alone has."""
        return False

    @abstractmethod
    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        """Loss terms whose gradient reaches the generator through ``fake.x0``."""

    @abstractmethod
    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        """Loss terms for the fake score and the head; ``real`` is None where the objective needs no data.

        Their graph is used up before ``real_terms`` are asked for.
        """

    def real_terms(self, roles: Roles, real: Noised) -> Terms:
        """Further terms for them, of real text alone; those of the same name are added up.

        Real text counts here where it can: two graphs that are never there together take half the memory. A loss of
        pairs of real and generated text belongs in ``critic_terms``.
        """
        return {}
