"""EDM's schedule."""

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import LargestSigma, LeastSigma, SigmaRange


@register(
    "karras",
    description="alpha = 1, sigma a power of time: evenly spaced times are EDM's noise levels",
    paper="Karras et al. 2022, EDM (arXiv 2206.00364), eq. 5 and table 1",
)
class KarrasSchedule(SigmaRange):
    """alpha = 1, sigma = sigma_max t^rho: from clean text to sigma_max, log SNR from +inf to -2 log sigma_max.

    EDM's n noise levels, (sigma_max^(1/rho) + i / (n - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho and at last 0,
    are those of n evenly spaced times from 1 to t_min = (sigma_min / sigma_max)^(1/rho), and of t = 0. The network is
    fed log(sigma) / 4, so it must not be asked at t = 0.

    Attributes:
        sigma_min: at t_min, the least noise the network is trained at.
        sigma_max: at t = 1.
        rho: the higher, the more times at low noise.
    """

    sigma_min: LeastSigma = 0.002
    sigma_max: LargestSigma = 80.0
    rho: float = Field(default=7.0, ge=1.0, le=50.0)

    @property
    def t_min(self) -> float:
        return (self.sigma_min / self.sigma_max) ** (1.0 / self.rho)

    def sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return self.sigma_max * t.double() ** self.rho

    def d_sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return self.sigma_max * self.rho * t.double() ** (self.rho - 1.0)

    def log_snr(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return -2.0 * self._log_sigma(t)

    def inverse(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return torch.exp((-0.5 * log_snr.double() - math.log(self.sigma_max)) / self.rho).clamp(max=1.0)

    def network_time(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """EDM's c_noise, log(sigma) / 4."""
        return 0.25 * self._log_sigma(t)

    def _log_sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return math.log(self.sigma_max) + self.rho * torch.log(t.double())
