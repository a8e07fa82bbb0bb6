"""Space + process + backbone = a denoiser, the only face of a model that objectives and samplers see."""

import contextlib
import copy
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dlkit.diffusion import flow_map
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.parameterization import LOGITS, Source, Target
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces._base import TokenSpace

X0: AbstractSet[str] = frozenset({"x0"})
LOWER = (torch.bfloat16, torch.float16)
_M = TypeVar("_M", bound=nn.Module)


@dataclass(frozen=True)
class Prediction:
    """What a network says of a noisy state.

    Attributes:
        x0: estimate of E[x0 | x_t].
        value: the same in another parameterisation, if ``to`` asked for one; otherwise x0.
        logits: over the vocabulary, if wanted: the network's own, or what the space reads in x0.
        features: hidden states for discriminator heads, if wanted.
        uncorrected: x0 without the residual that the network may put out beside it, if wanted.
    """

    x0: Float[Tensor, "b l d"]
    value: Float[Tensor, "b l d"]
    logits: Float[Tensor, "b l v"] | None = None
    features: Float[Tensor, "b l h"] | None = None
    uncorrected: Float[Tensor, "b l d"] | None = None


class Denoiser(nn.Module):
    """E[x0 | x_t, t, cond] with the given positions held at their anchor on the way in.

    Args:
        space: tokens <-> states.
        process: the forward process; owns alpha, sigma and Tweedie. If it learns its prior's mean, the space gets one.
            If its schedule learns, its weights are a part of this module.
        backbone: see :class:`dlkit.backbones._base.Backbone`.
        prediction: what the output is. Where it is logits and the backbone has none of its own, the output is a state
            all the same, which the space reads.

    Attributes:
        schedule: the weights of a schedule that learns, else None.
        lower: the type that the backbone computes in where it is not its own; see :meth:`compute_in`.
    """

    schedule: nn.Module | None
    lower: torch.dtype | None = None

    def __init__(
        self, space: TokenSpace, process: GaussianProcess, backbone: nn.Module, prediction: Source = "x0"
    ) -> None:
        super().__init__()
        self.space, self.backbone = space, backbone
        self.schedule = weights = process.noise_schedule.weights()
        self._process = process if weights is None else process.under(process.noise_schedule.holding(weights))
        self.prediction: Source = prediction
        if process.learns_mean:
            space.learn_mean()

    def compute_in(self, dtype: torch.dtype) -> None:
        """Let the backbone compute in bf16 or fp16 as under autocast, its matrices rounded once; or in fp32 again.

        Nothing else is rounded: states, schedule, table, logits that are turned into states, and in the backbone norms,
        buffers such as rotary rates, and the layers that it names ``full_precision``. So it is what a network that is
        trained under autocast has seen. What was rounded stays so in fp32.

        Raises:
            ValueError: the type is another.
        """
        if dtype not in LOWER and dtype != torch.float32:
            raise ValueError(f"a network computes in float32, bfloat16 or float16, not {dtype}")
        kept = {
            id(part.get_submodule(name))
            for part in self.backbone.modules()
            for name in getattr(part, "full_precision", ())
        }
        for part in self.backbone.modules():
            if isinstance(part, nn.Linear) and id(part) not in kept:
                part.to(dtype)
        self.lower = dtype if dtype in LOWER else None

    @property
    def learned(self) -> Target:
        """What a loss of the output is a mean square of: the output, but eps for a score and x0 for logits.

        The score of nearly clean states is huge, and logits that mean the same x0 are many.
        """
        special: dict[Source, Target] = {"score": "eps", **dict.fromkeys(LOGITS, "x0")}
        return special.get(self.prediction, self.prediction)  # type: ignore[return-value]

    @property
    def process(self) -> GaussianProcess:
        """The forward process, around the mean that the space holds and with the schedule's weights."""
        return self._process.around(self.space.mean_embed)

    def prior(self, eps: Float[Tensor, "b l d"], t: float = 1.0) -> Float[Tensor, "b l d"]:
        """A state at t from standard normal noise where nothing is known of the text."""
        return self.process.prior(eps, t, self.space.variance)

    @property
    def self_conditions(self) -> bool:
        """Whether the network takes an earlier estimate of x0 beside the state."""
        return getattr(self.backbone, "self_conditions", False)

    @property
    def two_times(self) -> bool:
        """Whether the network takes a second time: it then predicts the mean of x0 over the way from one to the other.

        That is the D_{s,t} of :mod:`dlkit.diffusion.flow_map`; with one time alone it is E[x0 | x_s].
        """
        return getattr(self.backbone, "two_times", False)

    def forward(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        *,
        self_cond: Float[Tensor, "b l d"] | None = None,
        end: Float[Tensor, " b"] | None = None,
        evidence: float = 1.0,
        to: Target | None = None,
        want: AbstractSet[str] = X0,
        taps: tuple[int, ...] = (-1,),
    ) -> Prediction:
        """See :meth:`predict`."""
        x_t = x_t if cond is None else cond.apply(x_t)
        process = self.process
        output, features, residual = self._network(x_t, t, cond, taps if "features" in want else None, self_cond, end)
        logits = self._logits(output, x_t, t, evidence) if self.prediction in LOGITS else None
        source: Target = self.prediction if logits is None else "x0"  # type: ignore[assignment]
        value = output if logits is None else self._mean(logits).to(x_t.dtype)
        x0 = process.convert(value, x_t, t, source, "x0")
        uncorrected = x0 if "uncorrected" in want else None
        if residual is not None and end is not None:
            x0 = value = flow_map.corrected(process, x0, residual, t, end)
            source, logits = "x0", None
        asked = x0 if to is None else process.convert(value, x_t, t, source, to)
        if "logits" not in want:
            logits = None
        elif logits is None:
            logits = self.space.logits(x0)
        return Prediction(x0, asked, logits, features, uncorrected)

    def logits(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        *,
        self_cond: Float[Tensor, "b l d"] | None = None,
        end: Float[Tensor, " b"] | None = None,
        evidence: float = 1.0,
    ) -> Float[Tensor, "b l v"]:
        """The logits of :meth:`predict`, without the x0 that they stand for: among one-hot states it is as large.

        Where a residual of x0 stands beside them they are those without it.

        Raises:
            ValueError: the network puts out no logits.
        """
        if self.prediction not in LOGITS:
            raise ValueError(f"the network puts out {self.prediction}, not logits")
        x_t = x_t if cond is None else cond.apply(x_t)
        output, *_ = self._network(x_t, t, cond, None, self_cond, end)
        return self._logits(output, x_t, t, evidence)

    def _network(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        taps: tuple[int, ...] | None,
        self_cond: Float[Tensor, "b l d"] | None,
        end: Float[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "b l n"], Float[Tensor, "b l h"] | None, Float[Tensor, "b l d"] | None]:
        """What the backbone puts out, its features, and the residual of x0 that it may put out beside."""
        process = self.process
        wide = torch.promote_types(x_t.dtype, torch.float32)
        clock = lambda t: process.noise_schedule.network_time(t).to(wide)  # noqa: E731
        more = {} if self_cond is None else {"self_cond": self_cond}
        more |= {} if end is None else {"end": clock(end)}
        lower = contextlib.nullcontext() if self.lower is None else torch.autocast(x_t.device.type, self.lower)
        with lower:
            output, features = self.backbone(process.network_input(x_t, t, cond), clock(t), taps, **more)
        if not getattr(self.backbone, "residual", False):
            return output, features, None
        return output[..., : -x_t.shape[-1]], features, output[..., -x_t.shape[-1] :]

    def _logits(
        self, output: Float[Tensor, "b l n"], x_t: Float[Tensor, "b l d"], t: Float[Tensor, " b"], evidence: float
    ) -> Float[Tensor, "b l v"]:
        """What the output says of the tokens; with prior logits, and what the state itself says."""
        logits = output if getattr(self.backbone, "own_logits", False) else self.space.logits(output)
        if self.prediction == "logits":
            return logits
        process = self.process
        with torch.autocast(x_t.device.type, enabled=False):  # tens of nats, of which the tenths count
            own = self.space.evidence(x_t, process.alpha(t, x_t), process.sigma(t, x_t))
        return logits + evidence * own

    def _mean(self, logits: Float[Tensor, "b l v"]) -> Float[Tensor, "b l d"]:
        """The x0 that logits stand for, in float32 or better."""
        with torch.autocast(logits.device.type, enabled=False):
            return self.space.mean(logits.to(torch.promote_types(logits.dtype, torch.float32)))

    def predict(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        *,
        self_cond: Float[Tensor, "b l d"] | None = None,
        end: Float[Tensor, " b"] | None = None,
        evidence: float = 1.0,
        to: Target | None = None,
        want: AbstractSet[str] = X0,
        taps: tuple[int, ...] = (-1,),
    ) -> Prediction:
        """One network call.

        Args:
            x_t: noisy state.
            t: schedule times in (0, 1].
            cond: given positions; None where all are free.
            self_cond: an earlier estimate of x0, for a network that ``self_conditions``.
            end: the time on the way to which x0 is averaged, for a network of ``two_times``.
            evidence: share of the state's own likelihood in the logits, where they are prior logits.
            to: fill ``value`` with this parameterisation.
            want: any of x0, logits, features, uncorrected.
            taps: the layers whose hidden states are the features, side by side; negative counts from the end.
        """
        return self(x_t, t, cond, self_cond=self_cond, end=end, evidence=evidence, to=to, want=want, taps=taps)


def frozen(module: _M) -> _M:
    """A second way into a module: the same storage, behind parameters that take no gradient.

    Gradients pass through its inputs and leave nothing behind, and what is written into the module's tensors is seen
    here at once. Nobody toggles ``requires_grad``, which would make a compiled module compile again.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    shared |= {id(buffer): buffer for buffer in module.buffers()}
    return copy.deepcopy(module, shared)
