"""DDIM: the deterministic sampler."""

from collections.abc import Callable

from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.samplers import register
from dlkit.samplers._base import GridSampler


@register(
    "ddim",
    description="deterministic, correct for any number of steps; the last call is at the lowest noise level",
    paper="Song, Meng & Ermon 2021 (arXiv 2010.02502), eq. 12 with eta = 0",
)
class Ddim(GridSampler):
    """x_s = alpha_s x0 + sigma_s eps, with the eps that x_t and the predicted x0 imply."""

    def step(
        self, denoiser: Denoiser, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, noise: Callable[[], Tensor]
    ) -> Tensor:
        return denoiser.process.ddim(x_t, x0, t, s)
