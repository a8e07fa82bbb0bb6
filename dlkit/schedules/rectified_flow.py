"""The straight way of rectified flows."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import ContinuousSchedule


@register(
    "rectified_flow",
    description="a straight line from text to noise, with a shift of time towards one of them",
    paper="Liu et al. 2022, Rectified Flow (arXiv 2209.03003); shift: Esser et al. 2024 (2403.03206), eq. 23",
)
class RectifiedFlowSchedule(ContinuousSchedule):
    """alpha = 1 - t', sigma = t' with t' = s t / (1 + (s - 1) t): from clean text to noise alone.

    log SNR goes from +inf to -inf, and -2 log s is added to it at every time. The variance is not kept: alpha^2 +
    sigma^2 falls to 1/2 on the way. The network is fed 1000 t', so one that was trained with a shift can be asked with
    another.

    Attributes:
        shift: s; above 1 more of the time is spent at high noise. FastGen's is 5.
    """

    shift: float = Field(default=1.0, ge=0.01, le=100.0)

    def alpha(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """1 - t' = (1 - t) / (1 + (s - 1) t)."""
        return (1.0 - t.double()) / self._stretch(t)

    def sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """t'."""
        return self.shift * t.double() / self._stretch(t)

    def d_alpha(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return -self.d_sigma(t)

    def d_sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """s / (1 + (s - 1) t)^2."""
        return self.shift / self._stretch(t).square()

    def inverse(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """t = t' / (t' + s (1 - t')), with t' = sigmoid(-log SNR / 2)."""
        half = 0.5 * log_snr.double()
        sigma, alpha = torch.sigmoid(-half), torch.sigmoid(half)
        return sigma / (sigma + self.shift * alpha)

    def network_time(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """1000 t'."""
        return 1000.0 * self.sigma(t)

    def _stretch(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return 1.0 + (self.shift - 1.0) * t.double()
