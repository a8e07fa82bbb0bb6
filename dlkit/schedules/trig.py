"""The trigonometric schedule."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import ContinuousSchedule

_QUARTER = math.pi / 2.0


@register(
    "trig",
    description="alpha and sigma are cosine and sine of the same angle, which grows evenly",
    paper="Albergo & Vanden-Eijnden 2022 (arXiv 2209.15571); Lu & Song 2024, TrigFlow (2410.11081)",
)
class TrigSchedule(ContinuousSchedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): from clean text to noise alone, log SNR from +inf to -inf.

    It is ``tan`` with d = 1, and ``cosine`` without its offset and its cap.
    """

    def alpha(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """cos(pi t / 2), as the sine of what is left of the angle: exactly 0 at t = 1."""
        return torch.sin(_QUARTER * (1.0 - t.double()))

    def sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return torch.sin(_QUARTER * t.double())

    def d_alpha(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return -_QUARTER * self.sigma(t)

    def d_sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return _QUARTER * self.alpha(t)

    def inverse(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """t = 2/pi atan(sigma / alpha)."""
        return torch.atan(torch.exp(-0.5 * log_snr.double())) / _QUARTER
