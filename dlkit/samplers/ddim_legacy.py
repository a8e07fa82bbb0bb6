"""The few-step sampler that DiffuSeq's published curve was made with."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.samplers import register
from dlkit.samplers._base import Step, Walk
from dlkit.schedules._base import DiscreteSchedule, Schedule


@register(
    "ddim_legacy",
    description="DDIM as in DiffuSeq's program, which is wrong for few steps: to repeat published numbers only",
    paper="Gong et al. 2023, DiffuSeq (arXiv 2210.08933); its sampling program",
)
class DdimLegacy(Walk):
    """DDIM steps by one index, i to i - 1, at the indices T - 1, T - 1 - gap, ...

    The state is taken to the noise level of index i - 1 and then treated as if it were at i - gap. So it keeps far more
    noise than the network is told, and unless the last index happens to be 0 the result is not even free of noise.
    With gap = 1 it is the same as ``ddim`` with T steps.

    Attributes:
        steps: the original's ``--step``: gap = T // steps. The number of calls is T / gap, rounded up.
        gap: used instead of T // steps, if given.
    """

    steps: int = Field(default=20, ge=1)
    gap: int | None = Field(default=None, ge=1)

    def path(self, schedule: Schedule) -> list[tuple[float, float]]:
        if not isinstance(schedule, DiscreteSchedule):
            raise UserError(f"ddim_legacy counts indices, which {schedule.registered_name!r} has none of; use ddim")
        size = schedule.steps
        gap = self.gap or size // self.steps
        if gap == 0:
            raise UserError(f"steps={self.steps} is more than the {size} steps of the schedule")
        return [((index + 1) / size, index / size) for index in range(size - 1, -1, -gap)]

    def step(self, process: GaussianProcess, now: Step) -> Float[Tensor, "b l d"]:
        return process.ddim(now.x_t, now.x0, now.t, now.s)
