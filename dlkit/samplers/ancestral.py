"""DDPM's ancestral sampler."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.randomness import truncated
from dlkit.samplers import register
from dlkit.samplers._base import GridSampler, Step


@register(
    "ancestral",
    description="draws x_s from q(x_s | x_t, x0 predicted), on the full grid or any part of it",
    paper="Ho et al. 2020 (arXiv 2006.11239), algorithm 2",
)
class Ancestral(GridSampler):
    """x_s = posterior mean + std z; then, if the process absorbs tokens, some of them become its mean.

    Attributes:
        variance: "large" is sigma_{t|s} (DiffuSeq's choice), "small" the posterior's own.
        noise_bound: z is drawn from the normal distribution truncated to |z| <= noise_bound, coordinate by coordinate;
            None for all of it. DiffuSeq's program calls this ``top_p``.
    """

    steps: int = Field(default=2000, ge=1)
    variance: Literal["large", "small"] = "large"
    noise_bound: float | None = Field(default=None, gt=0.0)

    def step(self, process: GaussianProcess, now: Step) -> Float[Tensor, "b l d"]:
        posterior = process.posterior(now.x_t, now.x0, now.t, now.s)
        std = posterior.std_large if self.variance == "large" else posterior.std
        noise = now.noise(0) if self.noise_bound is None else truncated(now.noise(0), self.noise_bound)
        x_s = posterior.mean + std * noise
        return process.absorb(x_s, std, lambda: torch.special.ndtr(now.noise(1)[..., 0]))
