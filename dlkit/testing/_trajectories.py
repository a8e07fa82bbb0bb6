"""The scene that objectives of trajectories are tried in."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dlkit.backbones.residual import ResidualBackbone
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.objectives._base import Noised
from dlkit.objectives._trajectory import Trajectory, Trip
from dlkit.randomness import Stream
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.testing import _material as material
from dlkit.training.turns import Networks


class Weighting(nn.Module):
    """Some w(s)."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))

    def forward(self, time: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.slope * time / 1000.0


class PointwiseMap(material.Pointwise):
    """The same network with a second time, and a weighting of losses."""

    two_times = True

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.second, self.learnable_loss_weighting = nn.Linear(1, material.HIDDEN), Weighting()

    def forward(
        self, x: Tensor, time: Tensor, taps: Any = None, *, end: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x0."""
        clocks = zip((self.clock, self.second), (time, time if end is None else end), strict=True)
        told = sum(clock(t.to(x.dtype)[:, None] / 1000.0)[:, None] for clock, t in clocks)
        return self.down(torch.tanh(self.up(x) + told)), None


def networks(part: Trajectory, process: GaussianProcess | None = None) -> Networks:
    """Teacher, student, its average and a guide; of logits where distributions are compared."""
    forward = process or material.process()
    prediction = "logits" if part.loss == "cross_entropy" else "x0"

    def made(seed: int, kind: str) -> Denoiser:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            own = (PointwiseMap if kind == "two_times" else material.Pointwise)(material.DIM)
            if kind == "residual":
                own = ResidualBackbone(own, PointwiseMap(material.DIM))
            space = EmbeddingSpace(material.VOCABULARY, material.DIM)
            return Denoiser(space, forward, own, prediction).double().eval()

    teacher, student = made(0, "same").requires_grad_(False), made(1, part.student_kind)
    averaged = {name: 0.9 * weight.detach() for name, weight in student.backbone.named_parameters()}
    return Networks(teacher, student, averaged=averaged, guide=made(2, "two_times").requires_grad_(False))


def trip(part: Trajectory, forward: GaussianProcess, still: Noised, cond: Condition) -> Trip:
    """Jumps of the objective's own choice from real text; ``still`` is at rest."""
    stream, rows = Stream(0, "testing/trip"), torch.arange(material.BATCH)
    way = part.way(lambda use: stream.named(use).uniform(rows), forward.noise_schedule, 1.0)
    eps = stream.named("eps").normal(rows, *still.x0.shape[1:]).double()
    x0 = still.x0.detach()
    x_t = forward.q_sample(x0, way.begin, eps, cond)
    return Trip(x0, x_t, way.begin, cond, way=way, still=still if part.has_diagonal else None)
