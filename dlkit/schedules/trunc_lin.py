"""DDPM's schedule, with noise from the first step on."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._table import TableSchedule


@register(
    "trunc_lin",
    description="linear with .01 added to every beta: more noise near clean text",
    paper="Li et al. 2022, Diffusion-LM Improves Controllable Text Generation (arXiv 2205.14217); its program",
)
class TruncLinSchedule(TableSchedule):
    """beta rises linearly from .1/T + .01 to 20/T + .01. With fewer than 21 steps beta would pass 1."""

    steps: int = Field(default=2000, ge=21, le=9000)

    def betas(self) -> Float[Tensor, " steps"]:
        return torch.linspace(0.1 / self.steps + 0.01, 20.0 / self.steps + 0.01, self.steps, dtype=torch.float64)
