"""A sampler."""

from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.samplers import register
from dlkit.samplers._base import Noise, Observer, Sampler


@register("starter", description="DDIM that draws new noise for part of the old at each step")
class Starter(Sampler):
    """x_s = alpha_s x0 + sigma_s (keep eps + sqrt(1 - keep^2) z), with the eps that the predicted x0 implies.

    Attributes:
        steps: network calls.
        keep: 1 is DDIM.
    """

    steps: int = Field(default=20, ge=1)
    keep: float = Field(default=0.9, ge=0.0, le=1.0)

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        process, x = denoiser.process, cond.apply(noise(0))
        grid = [*process.noise_schedule.even(self.steps), 0.0]
        for k, (now, to) in enumerate(pairwise(grid)):
            t = torch.full((len(x),), now, dtype=torch.float64, device=x.device)
            x0 = denoiser.predict(x, t, cond).x0
            if observe is not None:
                observe(k, now, x, x0)
            if to > 0.0:
                eps = self.keep * process.convert(x0, x, t, "x0", "eps") + (1 - self.keep**2) ** 0.5 * noise(k + 1)
                x0 = process.q_sample(x0, torch.full_like(t, to), eps)
            x = cond.apply(x0)
        return x
