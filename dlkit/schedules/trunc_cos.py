"""The cosine schedule, with noise from the first step on."""

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._table import TableSchedule


@register(
    "trunc_cos",
    description="a squared cosine that starts a little noisy, one step later than cosine",
    paper="Li et al. 2022, Diffusion-LM Improves Controllable Text Generation (arXiv 2205.14217); its program",
)
class TruncCosSchedule(TableSchedule):
    """alpha_bar_i = f(i/T) with f(u) = cos^2((u + .1) / 1.1 pi/2): index 0 has f(0) = .98."""

    steps: int = Field(default=2000, ge=2, le=9000)

    def betas(self) -> Float[Tensor, " steps"]:
        u = torch.arange(self.steps, dtype=torch.float64) / self.steps
        alpha_bar = torch.cos((u + 0.1) / 1.1 * (math.pi / 2.0)).square()
        return 1.0 - alpha_bar / torch.cat((torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]))
