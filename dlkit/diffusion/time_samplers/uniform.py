"""Uniform times."""

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from dlkit.diffusion.time_samplers import register
from dlkit.diffusion.time_samplers._base import TimeSampler
from dlkit.schedules._base import Schedule


@register(
    "uniform",
    description="every time of the schedule's grid between t_min and t_max is equally likely",
    paper="Ho et al. 2020 (arXiv 2006.11239), algorithm 1",
)
class UniformTime(TimeSampler):
    """t uniform on the grid of the schedule.

    DiffuSeq's index i is t = (i + 1) / T, so DLM-One's "0-1976 of 2000" is ``t_min=0.0005, t_max=0.9885``.

    Attributes:
        t_min: lowest time; None means the lowest the schedule has.
        t_max: highest time.
    """

    t_min: float | None = Field(default=None, gt=0.0, le=1.0)
    t_max: float = Field(default=1.0, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _range_holds_something(self) -> "UniformTime":
        if self.t_min is not None and self.t_min > self.t_max:
            raise ValueError(f"t_min={self.t_min} is above t_max={self.t_max}")
        return self

    def sample(self, u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
        t_min = schedule.t_min if self.t_min is None else max(self.t_min, schedule.t_min)
        return schedule.between(u, t_min, max(self.t_max, t_min))
