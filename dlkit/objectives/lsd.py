"""Lagrangian distillation of a flow map."""

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.diffusion import flow_map
from dlkit.objectives import register
from dlkit.objectives._trajectory import Differential, TrajectoryRoles, Trip


@register(
    "lsd",
    description="a student of two times: a jump whose end moves on must move with the flow",
    paper="FLM (arXiv 2602.16813), second version; Boffi et al. 2025, flow map matching (arXiv 2505.18825)",
)
class Lsd(Differential):
    """Target: D_{t,t}(X_{s,t}(x_s)) - (rho_t - rho_s) / rho_t' d/dt D_{s,t}(x_s), rho = alpha / sigma.

    The derivative is taken in forward mode, beside D_{s,t} itself, in one call of the student; D_{t,t} is the
    teacher's, or the student's own diagonal with ``diagonal: data``. Of a jump to clean text D_{t,t} alone is left.

    Attributes:
        loss: cross_entropy or squared.
        diagonal: teacher or data.
        boundary: share of the jumps from noise to text.
        averaged: targets by the averaged student.
        entmax: alpha of the projection back to the simplex, in (1, 2]; 2 takes the nearest distribution, null none.
    """

    def target(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        s, t, process, cond = trip.t, trip.way.end, roles.process, trip.cond
        # no inner function: run-time checks of its signature could not be compiled
        jump = lambda end: self.jumped(roles, trip.x_t, s, end, cond)  # noqa: E731
        (x0, _), (_, slope) = flow_map.along(jump, (t,), (torch.ones_like(t),))
        arrived = self.said(self.flow(roles, cond.apply(process.ddim(trip.x_t, x0, s, t)), t, cond))
        return self.projected(flow_map.lagrangian(process, arrived, slope, s, t))
