"""DDPM's schedule."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._table import TableSchedule


@register(
    "linear",
    description="beta rises linearly: little noise near clean text, nearly none of the text left from the middle on",
    paper="Ho et al. 2020, Denoising Diffusion Probabilistic Models (arXiv 2006.11239), section 4",
)
class LinearSchedule(TableSchedule):
    """beta rises from .1/T to 20/T: DDPM's 1e-4 to .02 at T = 1000. With fewer than 20 steps beta would pass 1."""

    steps: int = Field(default=2000, ge=20, le=9000)

    def betas(self) -> Float[Tensor, " steps"]:
        return torch.linspace(0.1 / self.steps, 20.0 / self.steps, self.steps, dtype=torch.float64)
