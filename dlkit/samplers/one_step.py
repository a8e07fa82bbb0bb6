"""A student's single call."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.codes import one_of
from dlkit.diffusion.condition import Condition
from dlkit.samplers import register
from dlkit.samplers._base import Noise, Observer, Sampler


@register(
    "one_step",
    description="one network call on pure noise at the student's time t_init",
    paper="Chen, Zhang & Zhou 2025, DLM-One (arXiv 2506.00290)",
)
class OneStep(Sampler):
    """e = G(z, t_init), z from the prior, or one of a fixed number of draws from it.

    Attributes:
        steps: always 1.
        t_init: the time the student is evaluated at; index 1490 of 2000 is .7455.
        codes: how many noises the student was taught, see :func:`dlkit.diffusion.codes.one_of`; it can write that many
            texts for a source. None is any noise.
        codes_seed: of the codes.
    """

    steps: int = Field(default=1, ge=1, le=1)
    t_init: float = Field(default=0.7455, gt=0.0, le=1.0)
    codes: int | None = Field(default=None, ge=1)
    codes_seed: int = 0

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        z = denoiser.process.prior(one_of(noise(0), self.codes, self.codes_seed), self.t_init)
        t = torch.full((len(z),), self.t_init, dtype=torch.float64, device=z.device)
        x0 = denoiser.predict(z, t, cond).x0
        if observe is not None:
            observe(0, self.t_init, z, x0)
        return cond.apply(x0)
