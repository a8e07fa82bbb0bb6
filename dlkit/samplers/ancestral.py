"""DDPM's ancestral sampler."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.samplers import register
from dlkit.samplers._base import GridSampler


@register(
    "ancestral",
    description="draws x_s from q(x_s | x_t, x0 predicted), on the full grid or any part of it",
    paper="Ho et al. 2020 (arXiv 2006.11239), algorithm 2",
)
class Ancestral(GridSampler):
    """x_s = posterior mean + std z.

    Attributes:
        variance: "large" is sigma_{t|s} (DiffuSeq's choice), "small" the posterior's own.
    """

    steps: int = 2000
    variance: Literal["large", "small"] = "large"

    def step(
        self, denoiser: Denoiser, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, noise: Callable[[], Tensor]
    ) -> Tensor:
        posterior = denoiser.process.posterior(x_t, x0, t, s)
        std = posterior.std_large if self.variance == "large" else posterior.std
        return posterior.mean + std * noise()
