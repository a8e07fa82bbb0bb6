"""Eulerian distillation of a flow map."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.diffusion import flow_map
from dlkit.objectives import register
from dlkit.objectives._trajectory import Differential, TrajectoryRoles, Trip, Uniform, Way
from dlkit.schedules._base import Schedule


@register(
    "esd",
    description="a student of two times: all that lies on one trajectory jumps to the same place",
    paper="FLM (arXiv 2602.16813), second version; Boffi et al. 2025, flow map matching (arXiv 2505.18825)",
)
class Esd(Differential):
    """Target: D_{s,s}(x_s) + (rho_t - rho_s) / rho_s' d/ds D_{s,t}(x_s), rho = alpha / sigma, x_s moving with the flow.

    The derivative is taken in forward mode, in state and time together, in one call of the student; D_{s,s} and with it
    the velocity are the teacher's, or the student's own diagonal with ``diagonal: data``. The factor grows without end
    towards clean text, so no jump ends below the lowest time that networks are asked at, and the last of a sampler's
    is taken for one that ends there.

    Attributes:
        loss: squared or cross_entropy.
        diagonal: teacher or data.
        boundary: share of the jumps from noise to text.
        averaged: targets by the averaged student.
        entmax: alpha of the projection back to the simplex, with cross_entropy; null for none.
    """

    loss: Literal["cross_entropy", "squared"] = "squared"

    def way(self, uniform: Uniform, schedule: Schedule, highest: float) -> Way:
        way = super().way(uniform, schedule, highest)
        return Way(way.begin, way.middle, way.end.clamp_min(schedule.t_min))

    def target(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        s, t, process, cond = trip.t, trip.way.end, roles.process, trip.cond
        begun = self.flow(roles, trip.x_t, s, cond)
        velocity = process.convert(begun.x0, trip.x_t, s, "x0", "velocity")

        jump = lambda x, begin: self.jumped(roles, x, begin, t, cond)[1]  # noqa: E731
        _, slope = flow_map.along(jump, (trip.x_t, s), (velocity, torch.ones_like(s)))
        return self.projected(flow_map.eulerian(process, self.said(begun), slope, s, t))
