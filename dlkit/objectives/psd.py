"""Semigroup distillation of a flow map."""

from jaxtyping import Float
from torch import Tensor

from dlkit.objectives import register
from dlkit.objectives._trajectory import FlowMap, TrajectoryRoles, Trip


@register(
    "psd",
    description="a student of two times: one jump is held to two jumps in a row",
    paper="FLM (arXiv 2602.16813), second version; Boffi et al. 2025, flow map matching (arXiv 2505.18825)",
)
class Psd(FlowMap):
    """Target: l D_{s,u}(x_s) + (1 - l) D_{u,t}(X_{s,u}(x_s)), l = (rho_u - rho_s) / (rho_t - rho_s).

    rho = alpha / sigma. Both are distributions over tokens if predictions are, and so is the target. No derivative of a
    network is needed: an update makes two network calls for the target.

    Attributes:
        loss: cross_entropy or squared.
        diagonal: teacher or data.
        boundary: share of the jumps from noise to text.
        averaged: targets by the averaged student.
    """

    def target(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        return self.semigroup(roles, trip)
