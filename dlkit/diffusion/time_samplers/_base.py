"""What a time sampler is, and those that draw the indices of a schedule's grid with unequal probabilities."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlkit.errors import UserError
from dlkit.part import Part
from dlkit.schedules._base import DiscreteSchedule, Schedule

Times = Float[Tensor, " b"]
Probabilities = Float[Tensor, " n"]


class TimeSampler(Part):
    """The distribution of the times a network is trained at.

    Attributes:
        weighted: a loss has to be multiplied by the weight of its time, which only the fit of a teacher does.
        joint: the times of a batch are drawn together: one depends on how many there are, and on its place.
    """

    weighted: ClassVar[bool] = False
    joint: ClassVar[bool] = False

    @abstractmethod
    def sample(self, u: Times, schedule: Schedule) -> Times:
        """Map uniforms on (0, 1) to times."""

    def start(self, schedule: Schedule) -> "TimeState":
        """What one run keeps of its times. Raises ``UserError`` if the schedule does not allow this sampler."""
        return TimeState(self, schedule)


class TimeState:
    """The times of one run. This one learns nothing from losses and weights all of them alike."""

    def __init__(self, sampler: TimeSampler, schedule: Schedule) -> None:
        self.sampler, self.schedule = sampler, schedule

    def draw(self, u: Times) -> tuple[Times, Times]:
        """Times and the weights of their losses: a function of the uniforms and of what was observed before."""
        return self.sampler.sample(u, self.schedule), torch.ones_like(u)

    def observe(self, t: Times, loss: Float[Tensor, " b"]) -> None:
        """Take in the losses of samples, before they are weighted."""

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint must hold."""
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of :meth:`tensors`. Raises ``UserError`` if one is missing or has another shape."""


class IndexState(TimeState, ABC):
    """Draws index i of the schedule's grid with probability p_i, and weights its loss by 1 / (n p_i).

    The weighted loss has the mean of uniform times: E_p[loss / (n p)] = sum_i loss_i / n. It lives on the CPU in
    float64, whatever the device of the run.

    Raises:
        UserError: the schedule has no grid.
    """

    schedule: DiscreteSchedule

    def __init__(self, sampler: TimeSampler, schedule: Schedule) -> None:
        if not isinstance(schedule, DiscreteSchedule):
            raise UserError(
                f"time_samplers {sampler.registered_name!r} draws the steps of a schedule's grid, and "
                f"{schedule.registered_name!r} has none; use uniform"
            )
        super().__init__(sampler, schedule)

    @abstractmethod
    def probabilities(self) -> Probabilities:
        """p of every index that may be drawn, with sum 1."""

    def draw(self, u: Times) -> tuple[Times, Times]:
        p = self.probabilities()
        index = inverse_cdf(p, u.cpu())
        weight = 1.0 / (len(p) * p[index])
        return self.schedule.time_of(index).to(u.device), weight.to(u.device)

    def index_of(self, t: Times) -> Int[Tensor, " b"]:
        """The index of a time on the grid."""
        return (t.cpu() * self.schedule.steps).round().long() - 1


def inverse_cdf(p: Probabilities, u: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The index i with p_0 + ... + p_(i-1) <= u < p_0 + ... + p_i, for u in [0, 1)."""
    cumulative = p.cumsum(0)
    return torch.searchsorted(cumulative / cumulative[-1], u, right=True)
