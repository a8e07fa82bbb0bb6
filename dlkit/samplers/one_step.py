"""A student's single call."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.samplers import register
from dlkit.samplers._base import Noise, Observer
from dlkit.samplers._student import StudentSampler


@register(
    "one_step",
    description="one network call on pure noise at the student's time t_init",
    paper="Chen, Zhang & Zhou 2025, DLM-One (arXiv 2506.00290)",
)
class OneStep(StudentSampler):
    """e = G(z, t_init), z from the prior, or one of a fixed number of draws from it.

    Attributes:
        steps: always 1.
        t_init, codes, codes_seed: see :class:`dlkit.samplers._student.StudentSampler`.
    """

    steps: int = Field(default=1, ge=1, le=1)

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        z = self.begin(denoiser, noise)
        t = torch.full((len(z),), self.t_init, dtype=torch.float64, device=z.device)
        x0 = denoiser.predict(z, t, cond).x0
        if observe is not None:
            observe(0, self.t_init, z, x0)
        return cond.apply(x0)
