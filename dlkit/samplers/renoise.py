"""A one-step student asked several times."""

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
    "renoise",
    description="one-step output, noised to a lower level and denoised again, k calls in all",
    paper="Chen, Zhang & Zhou 2025, DLM-One (arXiv 2506.00290), table 4",
)
class Renoise(StudentSampler):
    """e_1 = G(z, t_1); e_k = G(alpha(t_k) e_{k-1} + sigma(t_k) z_k, t_k), with t_k = t_init (1 - (k - 1) / steps).

    The paper does not give its times; evenly spaced ones are this project's choice, and those of few-step SiD (Zhou et
    al. 2025, arXiv 2505.12674). A student that was distilled for k steps has learnt to be asked at them. A time below
    the schedule's t_min, where no network was trained, is t_min instead.

    Attributes:
        steps: calls.
        t_init, codes, codes_seed: of the first call, see :class:`dlkit.samplers._student.StudentSampler`.
    """

    steps: int = Field(default=2, ge=1)

    @property
    def times(self) -> list[float]:
        """t_1 > ... > t_k > 0."""
        return [self.t_init * (1.0 - k / self.steps) for k in range(self.steps)]

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        process = denoiser.process
        lowest = process.noise_schedule.t_min
        x = self.begin(denoiser, noise)
        for k, now in enumerate(max(time, lowest) for time in self.times):
            t = torch.full((len(x),), now, dtype=torch.float64, device=x.device)
            x_t = x if k == 0 else process.q_sample(x, t, noise(k), cond)
            x = cond.apply(denoiser.predict(x_t, t, cond).x0)
            if observe is not None:
                observe(k, now, x_t, x)
        return x
