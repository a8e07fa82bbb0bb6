"""Times of a batch, one from each of as many strata."""

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.diffusion.time_samplers import register
from dlkit.diffusion.time_samplers._base import TimeSampler
from dlkit.schedules._base import Schedule


@register(
    "stratified",
    description="uniform times, one from each of as many equal strata as a batch has samples",
    paper="FLM (arXiv 2602.16813) and earlier language models by diffusion, which call it antithetic",
)
class StratifiedTime(TimeSampler):
    """(k + u_k) / B for sample k of B, spread over the times of the schedule: each time is as likely as any other.

    A batch then has times of all kinds, and its mean loss varies less than that of independent ones. As the samples of
    a batch are in random order, which of them has which stratum does not matter.
    """

    joint = True

    def sample(self, u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
        stratum = torch.arange(len(u), dtype=torch.float64, device=u.device)
        return schedule.between((stratum + u) / len(u), schedule.t_min, 1.0)
