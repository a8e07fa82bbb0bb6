"""Low noise twice as often as high noise."""

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.diffusion.time_samplers import register
from dlkit.diffusion.time_samplers._base import IndexState, Probabilities, TimeSampler
from dlkit.schedules._base import Schedule


@register(
    "low_noise_twice",
    description="each step of the less noisy half is drawn twice as often as one of the other half, losses weighted",
    paper='option "fixstep" of DiffuSeq\'s code (Gong et al. 2023, arXiv 2210.08933)',
)
class LowNoiseTwice(TimeSampler):
    """p_i proportional to 1 for the first half of the T indices and to 1/2 for the second; weight 1 / (T p_i).

    As in the original each half has floor(T / 2) indices, so the last index of an odd T is never drawn. It is of no
    consequence: there the input is noise alone.
    """

    weighted = True

    def sample(self, u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
        return self.start(schedule).draw(u)[0]

    def start(self, schedule: Schedule) -> "Halves":
        return Halves(self, schedule)


class Halves(IndexState):
    """Probabilities that never change."""

    def probabilities(self) -> Probabilities:
        half = self.schedule.steps // 2
        relative = torch.ones(2 * half, dtype=torch.float64)
        relative[half:] = 0.5
        return relative / relative.sum()
