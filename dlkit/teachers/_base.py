"""What a teacher family is."""

from abc import abstractmethod
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.part import Part


@dataclass(frozen=True)
class FitBatch:
    """What one evaluation of a teacher's training loss is made of; every random number is drawn beforehand.

    Attributes:
        ids: tokens; mask: True where the text is generated.
        t: times; eps_0, eps_t: standard normal states.
        u: uniforms that choose the tokens that the process absorbs; none are needed if it absorbs none.
    """

    ids: Int[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]
    t: Float[Tensor, " b"]
    eps_0: Float[Tensor, "b l d"]
    eps_t: Float[Tensor, "b l d"]
    u: Float[Tensor, "b l"] | None = None


class TeacherFamily(Part):
    """How teachers of one kind are fitted."""

    @abstractmethod
    def losses(self, denoiser: Denoiser, batch: FitBatch) -> dict[str, Float[Tensor, " b"]]:
        """Terms of the training loss for each sample; their sum is what is minimised."""
