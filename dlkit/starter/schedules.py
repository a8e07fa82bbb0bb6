"""A schedule."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import CappedSchedule


@register("starter", description="alpha^2 falls as a power of the time left")
class Starter(CappedSchedule):
    """alpha(t)^2 = (1 - t)^power, with the last of the ``steps`` capped as DiffuSeq does.

    Attributes:
        power: 1 is linear.
    """

    power: float = Field(default=1.0, ge=1.0, le=9.0)

    def _f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return (1.0 - t) ** self.power

    def _d_f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return -self.power * (1.0 - t) ** (self.power - 1.0)

    def _f_inverse(self, alpha_bar: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return 1.0 - alpha_bar ** (1.0 / self.power)
