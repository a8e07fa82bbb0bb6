"""The tan-d schedule of TEncDM."""

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import ContinuousSchedule

_QUARTER = math.pi / 2.0


@register(
    "tan",
    description="trig with its log SNR shifted by -2 log d: much noise at most times, as encodings of text need",
    paper="Hoogeboom et al. 2023, simple diffusion (arXiv 2301.11093); Shabalin et al. 2024, TEncDM (2402.19097)",
)
class TanSchedule(ContinuousSchedule):
    """alpha = 1 / sqrt(1 + d^2 tan^2(pi t / 2)), sigma = sqrt(1 - alpha^2); log SNR = -2 log(d tan(pi t / 2)).

    From clean text to noise alone, log SNR from +inf to -inf. In terms of the angle phi = atan(d tan(pi t / 2)) it is
    alpha = cos phi, sigma = sin phi; d = 1 is ``trig``.

    Attributes:
        d: how far noise comes first; TEncDM's is 9. At t = 1/2 sigma / alpha = d.
    """

    d: float = Field(default=9.0, ge=0.01, le=1000.0)

    def alpha(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        cosine, sine = self._sides(t)
        return cosine / (cosine.square() + sine.square()).sqrt()

    def sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        cosine, sine = self._sides(t)
        return sine / (cosine.square() + sine.square()).sqrt()

    def d_alpha(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """-sin(phi) d phi / dt."""
        return -self.sigma(t) * self._d_angle(t)

    def d_sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """cos(phi) d phi / dt."""
        return self.alpha(t) * self._d_angle(t)

    def log_snr(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        cosine, sine = self._sides(t)
        return 2.0 * (torch.log(cosine) - torch.log(sine))

    def inverse(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return torch.atan(torch.exp(-0.5 * log_snr.double()) / self.d) / _QUARTER

    def _sides(self, t: Float[Tensor, " *b"]) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        """cos(pi t / 2) and d sin(pi t / 2), which alpha and sigma are proportional to."""
        t = t.double()
        return torch.sin(_QUARTER * (1.0 - t)), self.d * torch.sin(_QUARTER * t)

    def _d_angle(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """d phi / dt = (pi / 2) d / (cos^2 + d^2 sin^2)."""
        cosine, sine = self._sides(t)
        return _QUARTER * self.d / (cosine.square() + sine.square())
