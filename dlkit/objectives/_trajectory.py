"""What the objectives that follow the teacher's own trajectories have in common: no fake score, no samples."""

from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dlkit.denoiser import Prediction
from dlkit.diffusion import flow_map
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.kernels.entmax import onto_simplex
from dlkit.objectives._base import Needs, Noised, Objective, Roles, Terms
from dlkit.objectives._terms import per_sample, wide
from dlkit.schedules._base import Schedule
from dlkit.spaces._base import TokenSpace

Who = Literal["student", "target", "averaged", "teacher", "guide"]
StudentKind = Literal["same", "two_times", "residual"]
Loss = Literal["cross_entropy", "squared", "pseudo_huber"]
Uniform = Callable[[str], Float[Tensor, " b"]]
"""uniform(name): uniforms on (0, 1) by the name of their use, a function of each sample alone."""

HUBER = 0.00054


@dataclass(frozen=True)
class Way:
    """The times of a jump: from ``begin``, past ``middle``, to ``end``; noise falls on the way."""

    begin: Float[Tensor, " b"]
    middle: Float[Tensor, " b"]
    end: Float[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Trip(Noised):
    """Real text, noised to where a jump begins, which is its ``t``.

    Attributes:
        way: the times of the jump.
        still: other texts of the batch, at the times at which the student's diagonal learns; None if it does not.
    """

    way: Way
    still: Noised | None = None


class TrajectoryRoles(Protocol):
    """The networks of a turn in which no critic learns."""

    process: GaussianProcess
    space: TokenSpace

    def ask(
        self,
        who: Who,
        x: Float[Tensor, "b l d"],
        s: Float[Tensor, " b"],
        cond: Condition,
        end: Float[Tensor, " b"] | None = None,
        want: AbstractSet[str] = frozenset({"x0"}),
    ) -> Prediction:
        """What a network says of x at s: of the way to ``end`` if it takes two times, else of clean text.

        ``student`` learns. ``target`` is the same network, and ``averaged`` the same with averaged weights, both
        without gradients, as are ``teacher`` and ``guide``, another student of two times that the objective names. A
        time below the lowest that networks are asked at counts as that one.
        """
        ...

    def log_weight(self, s: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """w(s) of a student that learns how large its losses are."""
        ...


class Trajectory(Objective):
    """The student is held to a target that the teacher and the student itself give, at noised real text.

    Predictions are compared as distributions over tokens (``cross_entropy``: -sum_v target_v log D_v, whose least value
    is the target's entropy) or as states: ``squared`` is |D - target|^2, ``pseudo_huber`` is sqrt(|D - target|^2 + c^2)
    - c with c = .00054 sqrt(d) (Song & Dhariwal 2023, arXiv 2310.14189). All are sums over a position's d coordinates,
    or tokens, and means over generated positions and samples. The target never has a gradient.

    Attributes:
        student_kind: what the student is: a network as the teacher's (``same``), one of ``two_times`` that begins with
            its weights, or the frozen teacher with a ``residual`` of two times.
        has_diagonal: whether half of a batch teaches D_{s,s}.
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset({"teacher", "student"}), data="real")
    student_kind: ClassVar[StudentKind] = "two_times"
    has_diagonal: ClassVar[bool] = False

    loss: Loss = "cross_entropy"

    @abstractmethod
    def way(self, uniform: Uniform, schedule: Schedule, highest: float) -> Way:
        """Times of jumps that begin at ``highest`` or below."""

    @abstractmethod
    def target(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        """What the student's prediction of the jump should be; called without gradients."""

    def generator_terms(self, roles: TrajectoryRoles, fake: Trip) -> Terms:  # type: ignore[override]
        with torch.no_grad():
            target = self.target(roles, fake)
        end = None if self.student_kind == "same" else fake.way.end
        own = roles.ask("student", fake.x_t, fake.t, fake.cond, end, self.want)
        return {self.registered_name: self.losses(roles, fake, own, target).mean()}

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {}

    def losses(
        self, roles: TrajectoryRoles, trip: Trip, own: Prediction, target: Float[Tensor, "b l n"]
    ) -> Float[Tensor, " b"]:
        """The losses of the samples as they are counted."""
        return self.compared(own, target, trip.cond.mask)

    @property
    def want(self) -> frozenset[str]:
        """What is asked of a prediction."""
        return frozenset({"x0", "logits"}) if self.loss == "cross_entropy" else frozenset({"x0"})

    def said(self, prediction: Prediction) -> Float[Tensor, "b l n"]:
        """A prediction as it is compared: the distribution over tokens, or the state."""
        return prediction.x0 if prediction.logits is None else wide(prediction.logits).softmax(-1)

    def compared(
        self, own: Prediction, target: Float[Tensor, "b l n"], mask: Bool[Tensor, "b l"]
    ) -> Float[Tensor, " b"]:
        """The loss of each sample, float32 or better."""
        if own.logits is not None:
            return per_sample(-(target * F.log_softmax(wide(own.logits), -1)).sum(-1), mask)
        squared = (wide(own.x0) - target).square().sum(-1)
        if self.loss == "squared":
            return per_sample(squared, mask)
        c = HUBER * target.shape[-1] ** 0.5
        return per_sample((squared + c * c).sqrt() - c, mask)


def spans(uniform: Uniform, schedule: Schedule, highest: float, boundary: float) -> Way:
    """A length d ~ U(0, 1), a beginning ~ U(d, 1) of the times up to ``highest``, and a middle ~ U of the way.

    With probability ``boundary`` it is the whole way, from noise to clean text. No jump begins below the lowest time
    that networks are asked at.
    """
    length = uniform("length")
    begin = length + (1.0 - length) * uniform("begin")
    whole = uniform("boundary") < boundary
    begin, length = torch.where(whole, 1.0, begin), torch.where(whole, 1.0, length)
    end = highest * (begin - length).clamp_min(0.0)
    begin = (highest * begin).clamp_min(schedule.t_min)
    return Way(begin, begin + (end - begin) * uniform("middle"), end)


class TwoTimes(Trajectory):
    """A student D_{s,t} that makes its own targets.

    Attributes:
        boundary: share of the jumps that go all the way from noise to text.
        averaged: targets are made by the averaged student, not by the present one.
    """

    boundary: float = Field(default=1 / 32, ge=0, le=1)
    averaged: bool = False

    def way(self, uniform: Uniform, schedule: Schedule, highest: float) -> Way:
        return spans(uniform, schedule, highest, self.boundary)

    def mapped(
        self, roles: TrajectoryRoles, x: Float[Tensor, "b l d"], s: Tensor, t: Tensor, cond: Condition
    ) -> Prediction:
        """D_{s,t} of the network that targets are made with."""
        return roles.ask("averaged" if self.averaged else "target", x, s, cond, t, self.want)

    def semigroup(self, roles: TrajectoryRoles, trip: Trip) -> Float[Tensor, "b l n"]:
        """D_{s,t} by two jumps that meet at the middle."""
        s, u, t, process, cond = trip.t, trip.way.middle, trip.way.end, roles.process, trip.cond
        first = self.mapped(roles, trip.x_t, s, u, cond)
        x_u = cond.apply(process.ddim(trip.x_t, first.x0, s, u))
        second = self.mapped(roles, x_u, u, t, cond)
        return flow_map.joined(process, self.said(first), self.said(second), s, u, t)


class FlowMap(TwoTimes):
    """A student D_{s,t} of two times: its diagonal learns the teacher's denoiser, the rest an identity of flow maps.

    See :mod:`dlkit.diffusion.flow_map`. Half of the batch's rows are at s = t. The diagonal's times are the stage's
    ``time_sampler``'s; jumps are of all lengths alike, in the time of the schedule, which is what networks of a clock
    of their own are fed.

    Attributes:
        loss: cross_entropy or squared.
        diagonal: D_{s,s} learns what the teacher says, or the true text of the data.
        boundary, averaged: see :class:`TwoTimes`.
    """

    has_diagonal: ClassVar[bool] = True

    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    diagonal: Literal["teacher", "data"] = "teacher"

    def generator_terms(self, roles: TrajectoryRoles, fake: Trip) -> Terms:  # type: ignore[override]
        assert fake.still is not None  # promised by has_diagonal
        return {"diagonal": self.at_rest(roles, fake.still), **super().generator_terms(roles, fake)}

    def at_rest(self, roles: TrajectoryRoles, still: Noised) -> Float[Tensor, ""]:
        """The loss of the diagonal."""
        own = roles.ask("student", still.x_t, still.t, still.cond, still.t, self.want)
        return self.compared(own, self.denoised(roles, still), still.cond.mask).mean()

    @torch.no_grad()
    def denoised(self, roles: TrajectoryRoles, still: Noised) -> Float[Tensor, "b l n"]:
        """What D_{s,s} should be."""
        if self.diagonal == "teacher":
            return self.said(roles.ask("teacher", still.x_t, still.t, still.cond, None, self.want))
        if self.loss == "squared":
            return still.x0
        return F.one_hot(roles.space.nearest(still.x0), roles.space.vocab_size).to(still.x0.dtype)

    def flow(self, roles: TrajectoryRoles, x: Float[Tensor, "b l d"], t: Tensor, cond: Condition) -> Prediction:
        """E[x0 | x_t], which gives the flow its velocity: the teacher's, or the student's own diagonal."""
        if self.diagonal == "teacher":
            return roles.ask("teacher", x, t, cond, None, self.want)
        return self.mapped(roles, x, t, t, cond)


class Differential(FlowMap):
    """A flow map whose target has a derivative in it, and may leave the simplex.

    Attributes:
        entmax: alpha of the projection of distributions back to it, :func:`dlkit.kernels.entmax.onto_simplex`; null
            projects nothing. States that are compared by the square error are never projected.
    """

    entmax: float | None = Field(default=2.0, gt=1.0, le=2.0)

    def jumped(
        self, roles: TrajectoryRoles, x: Float[Tensor, "b l d"], s: Tensor, t: Tensor, cond: Condition
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b l n"]]:
        """D_{s,t} as a state, and as it is compared."""
        prediction = self.mapped(roles, x, s, t, cond)
        return prediction.x0, self.said(prediction)

    def projected(self, target: Float[Tensor, "b l n"]) -> Float[Tensor, "b l n"]:
        """The target as it is learnt from."""
        if self.loss == "squared" or self.entmax is None:
            return target
        return onto_simplex(target, self.entmax)
