"""DDIM."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.samplers import register
from dlkit.samplers._base import GridSampler, Step


@register(
    "ddim",
    description="deterministic, correct for any number of steps; the last call is at the lowest noise level",
    paper="Song, Meng & Ermon 2021 (arXiv 2010.02502), eq. 12 and 16",
)
class Ddim(GridSampler):
    """x_s = alpha_s x0 + sqrt(sigma_s^2 - std^2) eps + std z, with the eps that x_t and the predicted x0 imply.

    Attributes:
        eta: std in units of the posterior's standard deviation; 0 is deterministic, 1 is ``ancestral`` with the small
            variance.
    """

    eta: float = Field(default=0.0, ge=0.0, le=1.0)

    def step(self, process: GaussianProcess, now: Step) -> Float[Tensor, "b l d"]:
        if self.eta == 0.0:
            return process.ddim(now.x_t, now.x0, now.t, now.s)
        std = self.eta * process.posterior(now.x_t, now.x0, now.t, now.s).std
        return process.ddim(now.x_t, now.x0, now.t, now.s, std, now.noise(0))
