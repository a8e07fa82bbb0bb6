"""A time sampler."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.diffusion.time_samplers import register
from dlkit.diffusion.time_samplers._base import TimeSampler
from dlkit.schedules._base import Schedule


@register("starter", description="times near clean text are drawn more often")
class Starter(TimeSampler):
    """t = u^power for a uniform u, spread over the schedule's times.

    Attributes:
        power: 1 is uniform.
    """

    power: float = Field(default=2.0, ge=1.0)

    def sample(self, u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
        return schedule.between(u**self.power, schedule.t_min, 1.0)
