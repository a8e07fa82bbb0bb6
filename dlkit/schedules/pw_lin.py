"""DDPM's schedule, with more noise in its first steps."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._table import TableSchedule

_FIRST = 10


@register(
    "pw_lin",
    description="beta falls over the first ten steps, then rises linearly",
    paper="Li et al. 2022, Diffusion-LM Improves Controllable Text Generation (arXiv 2205.14217); its program",
)
class PwLinSchedule(TableSchedule):
    """beta falls from .1/T + .01 to .1/T over 10 steps, then rises from .1/T to 20/T, both linearly."""

    steps: int = Field(default=2000, ge=20, le=9000)

    def betas(self) -> Float[Tensor, " steps"]:
        low, high = 0.1 / self.steps, 20.0 / self.steps
        first = torch.linspace(low + 0.01, low, _FIRST, dtype=torch.float64)
        return torch.cat((first, torch.linspace(low, high, self.steps - _FIRST, dtype=torch.float64)))
