"""Consistency distillation."""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.objectives import register
from dlkit.objectives._trajectory import Loss, StudentKind, Trajectory, TrajectoryRoles, Trip, Uniform, Way
from dlkit.schedules._base import Schedule


@register(
    "consistency",
    description="the student says the same text all along the teacher's way from noise to it",
    paper="Song et al. 2023, Consistency Models (arXiv 2303.01469), algorithm 2",
)
class Consistency(Trajectory):
    """Target: G(x_t, t), x_t = DDIM_teacher(x_s, s -> t) one step of a grid on from real text noised to s.

    The grid's times are t_init j / steps for j from 0 to ``steps``, and each step is as likely. At its end, t = 0, the
    text is there: the target is the teacher's E[x0 | x_s], DDIM's step to clean text, so nothing has to be built into
    the network. The student is asked at t_init as any of one step is, or at several times by ``renoise``, which is
    their multistep sampling.

    A teacher that conditions on an earlier estimate of its own (Plaid) is asked without one, as at a sampler's start.

    Attributes:
        loss: squared, pseudo_huber, or cross_entropy for networks of logits.
        steps: of the grid. More of them make a target that is nearer to the exact one, and further from the text.
        averaged: targets by the averaged student, not by the present one (Song & Dhariwal 2023, arXiv 2310.14189, take
            the present one).
    """

    student_kind: ClassVar[StudentKind] = "same"

    loss: Loss = "squared"
    steps: int = Field(default=32, ge=1)
    averaged: bool = True

    def way(self, uniform: Uniform, schedule: Schedule, highest: float) -> Way:
        step = (uniform("begin") * self.steps).floor().clamp(max=self.steps - 1)
        begin, end = (highest * (step + 1) / self.steps, highest * step / self.steps)
        lowest = schedule.t_min
        begin, end = begin.clamp_min(lowest), torch.where(step == 0, 0.0, end.clamp_min(lowest))
        return Way(begin, end, end)

    def target(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        t, cond = trip.way.end, trip.cond
        teacher = roles.ask("teacher", trip.x_t, trip.t, cond, None, self.want)
        x_t = cond.apply(roles.process.ddim(trip.x_t, teacher.x0, trip.t, t))
        own = roles.ask("averaged" if self.averaged else "target", x_t, t, cond, None, self.want)
        return torch.where((t == 0.0)[:, None, None], self.said(teacher), self.said(own))
