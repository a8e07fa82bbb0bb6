"""The second stage of FLM's first distillation."""

from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Prediction
from dlkit.objectives import register
from dlkit.objectives._trajectory import Trajectory, TrajectoryRoles, Trip, Uniform, Way, spans
from dlkit.schedules._base import Schedule


@register(
    "map_matching",
    description="a student of two times is fitted to the jumps of another one; FLM's first release",
    paper="FLM (arXiv 2602.16813), first version, stage 2",
)
class MapMatching(Trajectory):
    """|X_{s,t}(x_s) - X'_{s,t}(x_s)|^2 with the map X' of another student, that of ``residual_psd`` say.

    The two networks of that one, teacher and correction, become one network, whose D_{s,t} is a distribution if its
    predictions are. Jumps are compared where they land.

    Attributes:
        map: folder of the other student; its teacher is this one's.
        boundary: share of the jumps from noise to text.
    """

    trial: ClassVar[dict[str, Any]] = {"map": "runs/stage1/student"}

    map: str
    loss: Literal["squared"] = "squared"
    boundary: float = Field(default=1 / 64, ge=0, le=1)

    def way(self, uniform: Uniform, schedule: Schedule, highest: float) -> Way:
        return spans(uniform, schedule, highest, self.boundary)

    def target(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        return roles.ask("guide", trip.x_t, trip.t, trip.cond, trip.way.end, self.want).x0

    def losses(
        self, roles: TrajectoryRoles, trip: Trip, own: Prediction, target: Float[Tensor, "b l n"]
    ) -> Float[Tensor, " b"]:
        landed = [roles.process.ddim(trip.x_t, x0, trip.t, trip.way.end) for x0 in (own.x0, target)]
        return self.compared(Prediction(landed[0], landed[0]), landed[1], trip.cond.mask)
