"""The first stage of FLM's first distillation."""

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Prediction
from dlkit.diffusion.condition import Condition
from dlkit.objectives import register
from dlkit.objectives._trajectory import StudentKind, TrajectoryRoles, Trip, TwoTimes, Uniform, Way
from dlkit.schedules._base import Schedule


@register(
    "residual_psd",
    description="the frozen teacher's jump and a learned correction, held to two jumps in a row; FLM's first release",
    paper="FLM (arXiv 2602.16813), first version, stage 1",
)
class ResidualPsd(TwoTimes):
    """``psd`` for a student that corrects the teacher: along a straight flow, with times in c, its map is

        X_{s,t}(x) = x + (t - s) v(x, s) + (t - s)^2 / 2 g(x, s, t),    D_{s,t} = D_teacher + (t - s)(1 - s) / 2 g

    where g alone learns. The target is the D_{s,t} of its own two jumps by way of the middle of the time, in which v =
    (D_teacher - x) / (1 - s + guard). The loss is the square error. On the diagonal the student is the teacher whatever
    g is, so nothing has to teach it.

    With ``weighting`` the student learns w(s) beside, and a loss counts as exp(-w) loss + w: where w is the loss's
    logarithm, every time counts alike.

    Attributes:
        weighting: whether it does.
        guard: keeps v finite at c = 1.
        boundary: share of the jumps from noise to text.
        averaged: targets by the averaged student.
    """

    student_kind: ClassVar[StudentKind] = "residual"

    loss: Literal["squared"] = "squared"
    weighting: bool = True
    guard: float = Field(default=1e-5, ge=0)
    boundary: float = Field(default=1 / 64, ge=0, le=1)

    def way(self, uniform: Uniform, schedule: Schedule, highest: float) -> Way:
        way = super().way(uniform, schedule, highest)
        return Way(way.begin, (way.begin + way.end) / 2, way.end)

    def target(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        return self.semigroup(roles, trip)

    def mapped(
        self, roles: TrajectoryRoles, x: Float[Tensor, "b l d"], s: Tensor, t: Tensor, cond: Condition
    ) -> Prediction:
        who, want = "averaged" if self.averaged else "target", frozenset({"x0", "uncorrected"})
        exact = roles.ask(who, x, s, cond, t, want)
        assert exact.uncorrected is not None
        sigma = roles.process.sigma(s, x)
        x0 = exact.x0 + self.guard / (sigma + self.guard) * (x - exact.uncorrected)  # nothing divides g
        return Prediction(x0, x0)

    def losses(
        self, roles: TrajectoryRoles, trip: Trip, own: Prediction, target: Float[Tensor, "b l n"]
    ) -> Float[Tensor, " b"]:
        losses = super().losses(roles, trip, own, target)
        if not self.weighting:
            return losses
        w = roles.log_weight(trip.t)
        return (-w).exp() * losses + w
