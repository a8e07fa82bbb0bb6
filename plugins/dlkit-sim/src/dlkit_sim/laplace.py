"""The Laplace schedule."""

import math

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import CappedSchedule


@register(
    "laplace",
    description="log SNR is Laplace distributed: most times are spent around one noise level",
    paper="Hang et al. 2024, Improved Noise Schedule for Diffusion Training (arXiv 2407.03297)",
)
class Laplace(CappedSchedule):
    """log SNR(t) = centre - spread sgn(1/2 - t) log(1 - 2 |t - 1/2|), capped at the last step.

    Attributes:
        centre: the log SNR at t = 1/2, where most times are near.
        spread: the scale of the Laplace distribution.
    """

    centre: float = 0.0
    spread: float = Field(default=0.5, ge=0.1, le=5.0)

    def _f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return 1.0 / (1.0 + self._noise_to_signal(t))

    def _d_f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """-f^2 v', where v = sigma^2 / alpha^2 has the derivative spread v / min(t, 1 - t)."""
        slope = self.spread * self._noise_to_signal(t) / (0.5 - (t - 0.5).abs())
        return -self._f(t).square() * slope

    def _f_inverse(self, alpha_bar: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        v = (1.0 / alpha_bar - 1.0) * math.exp(self.centre)
        rising, falling = v.clamp(max=1.0) ** (1.0 / self.spread), v.clamp(min=1.0) ** (-1.0 / self.spread)
        return 0.5 * rising + (0.5 - 0.5 * falling)

    def _noise_to_signal(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """sigma^2 / alpha^2 = exp(-centre) (2t)^spread below t = 1/2 and exp(-centre) (2 - 2t)^-spread above."""
        below, above = (2.0 * t).clamp(max=1.0), (2.0 - 2.0 * t).clamp(max=1.0)
        return math.exp(-self.centre) * (below / above) ** self.spread
