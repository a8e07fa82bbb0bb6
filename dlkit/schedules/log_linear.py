"""The log-linear schedule."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import ContinuousSchedule, VariancePreserving


@register(
    "log_linear",
    description="total noise -log(1 - (1 - eps) t): the share of the text's variance falls evenly",
    paper="Lou et al. 2023, SEDD (arXiv 2310.16834); used by MDLM (2406.07524) and Duo (2506.10892)",
)
class LogLinearSchedule(VariancePreserving, ContinuousSchedule):
    """alpha_bar = exp(-n(t)) = 1 - (1 - eps) t, with the total noise n(t) = -log(1 - (1 - eps) t).

    Discrete diffusion keeps a token with probability exp(-n); the Gaussian process that corresponds, dx = -n'/2 x dt +
    sqrt(n') dw, keeps that share of its variance. From clean text to alpha_bar = eps, log SNR from +inf to
    log(eps / (1 - eps)). The network is fed n.

    Attributes:
        eps: alpha_bar at t = 1.
    """

    eps: float = Field(default=0.001, ge=1e-6, le=0.1)

    def alpha_bar(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return 1.0 - (1.0 - self.eps) * t.double()

    def d_alpha_bar(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return torch.full_like(t, self.eps - 1.0, dtype=torch.float64)

    def sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """sqrt((1 - eps) t)."""
        return ((1.0 - self.eps) * t.double()).sqrt()

    def log_snr(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return torch.log(self.alpha_bar(t)) - torch.log((1.0 - self.eps) * t.double())

    def inverse(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return (torch.sigmoid(-log_snr.double()) / (1.0 - self.eps)).clamp(max=1.0)

    def network_time(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """n(t), from 0 to -log(eps)."""
        return -torch.log(self.alpha_bar(t))
