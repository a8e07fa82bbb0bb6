"""The geometric sequence of noise levels of score-based models."""

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import DiscreteSchedule, LargestSigma, LeastSigma, SigmaRange


@register(
    "geometric",
    description="alpha = 1, sigma grows by the same factor at every step",
    paper="Song & Ermon 2019 (arXiv 1907.05600); Song et al. 2021, Score SDE, VE (2011.13456)",
)
class GeometricSchedule(SigmaRange, DiscreteSchedule):
    """alpha = 1, sigma_i = sigma_min (sigma_max / sigma_min)^(i / (T - 1)) for i = 0 .. T - 1, with t = (i + 1) / T.

    Between the steps of the original log sigma is linear in t, which is its own formula too. Below the first, at 1/T,
    sigma is linear and ends in clean text. At t = 1 it is sigma_max, and log SNR -2 log sigma_max.

    Attributes:
        steps: T; the original's is 1000.
        sigma_min: at 1/T.
        sigma_max: at t = 1; the original takes the largest distance between two samples.
    """

    steps: int = Field(default=1000, ge=2)
    sigma_min: LeastSigma = 0.01
    sigma_max: LargestSigma = 50.0

    @property
    def _slope(self) -> float:
        """d log sigma / dt above t = 1/T."""
        return math.log(self.sigma_max / self.sigma_min) * self.steps / (self.steps - 1)

    def sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        t = t.double()
        growth = torch.exp(self._slope * (t - self.t_min).clamp_min(0.0))
        return self.sigma_min * growth * (t * self.steps).clamp(max=1.0)

    def d_sigma(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        linear = torch.full_like(t, self.sigma_min * self.steps, dtype=torch.float64)
        return torch.where(t < self.t_min, linear, self._slope * self.sigma(t))

    def inverse(self, log_snr: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        growth = -0.5 * log_snr.double() - math.log(self.sigma_min)
        above = self.t_min + growth / self._slope
        return torch.where(growth < 0.0, self.t_min * torch.exp(growth), above).clamp(max=1.0)
