"""Space + process + backbone = a denoiser, the only face of a model that objectives and samplers see."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from dlkit.diffusion.condition import Condition
from dlkit.diffusion.parameterization import Source, Target
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.embedding import EmbeddingSpace

X0: AbstractSet[str] = frozenset({"x0"})


@dataclass(frozen=True)
class Prediction:
    """What a network says of a noisy state.

    Attributes:
        x0: estimate of E[x0 | x_t].
        value: the same in another parameterisation, if ``to`` asked for one; otherwise x0.
        logits: over the vocabulary, if wanted: the network's own, or what the space's head reads in x0.
        features: hidden states for discriminator heads, if wanted.
    """

    x0: Float[Tensor, "b l d"]
    value: Float[Tensor, "b l d"]
    logits: Float[Tensor, "b l v"] | None = None
    features: Float[Tensor, "b l h"] | None = None


class Denoiser(nn.Module):
    """E[x0 | x_t, t, cond] with the given positions held at their anchor on the way in.

    Args:
        space: tokens <-> states.
        process: the forward process; owns alpha, sigma and Tweedie. If it learns its prior's mean, the space gets one.
        backbone: ``forward(x, time, taps) -> (output, features)``.
        prediction: what the output is. For ``logits`` it is a state all the same, which the space's head reads.
    """

    def __init__(
        self, space: EmbeddingSpace, process: GaussianProcess, backbone: nn.Module, prediction: Source = "x0"
    ) -> None:
        super().__init__()
        self.space, self._process, self.backbone = space, process, backbone
        self.prediction: Source = prediction
        if process.learns_mean:
            space.learn_mean()

    @property
    def learned(self) -> Target:
        """What a loss of the output is a mean square of: the output, but eps for a score and x0 for logits.

        The score of nearly clean states is huge, and logits that mean the same x0 are many.
        """
        special: dict[Source, Target] = {"score": "eps", "logits": "x0"}
        return special.get(self.prediction, self.prediction)  # type: ignore[return-value]

    @property
    def process(self) -> GaussianProcess:
        """The forward process, around the mean that the space holds."""
        return self._process.around(self.space.mean_embed)

    def forward(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        *,
        to: Target | None = None,
        want: AbstractSet[str] = X0,
        taps: tuple[int, ...] = (-1,),
    ) -> Prediction:
        """See :meth:`predict`."""
        x_t = x_t if cond is None else cond.apply(x_t)
        time = self.process.noise_schedule.network_time(t)
        x_in = self.process.network_input(x_t, t, cond)
        output, features = self.backbone(x_in, time, taps if "features" in want else None)
        output = self.space.logits(output) if self.prediction == "logits" else output
        convert = partial(self.process.convert, output, x_t, t, self.prediction, table=self.space.table)
        x0 = convert("x0")
        value = x0 if to is None else convert(to)
        logits = None
        if "logits" in want:
            logits = output if self.prediction == "logits" else self.space.logits(x0)
        return Prediction(x0, value, logits, features)

    def predict(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        *,
        to: Target | None = None,
        want: AbstractSet[str] = X0,
        taps: tuple[int, ...] = (-1,),
    ) -> Prediction:
        """One network call.

        Args:
            x_t: noisy state.
            t: schedule times in (0, 1].
            cond: given positions; None where all are free.
            to: fill ``value`` with this parameterisation.
            want: any of x0, logits, features.
            taps: the layers whose hidden states are the features, side by side; negative counts from the end.
        """
        return self(x_t, t, cond, to=to, want=want, taps=taps)

    def frozen_predict(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        *,
        want: AbstractSet[str] = X0,
        taps: tuple[int, ...] = (-1,),
    ) -> Prediction:
        """:meth:`predict` with the same storage but detached parameters: gradients reach the input and stop there."""
        return frozen_call(self, x_t, t, cond, want=want, taps=taps)


def frozen_call(module: nn.Module, *args: object, **kwargs: object):
    """Call a module with its parameters detached, so that a backward pass leaves none of their gradients behind."""
    detached = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, detached, args, kwargs, tie_weights=True)
