"""The Gaussian forward process."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit import schedules
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.parameterization import TARGETS, Level, Target
from dlkit.diffusion.processes import register
from dlkit.kernels.noising import noising
from dlkit.part import Part, part_of
from dlkit.schedules._base import Schedule, VarianceExploding, VariancePreserving


@dataclass(frozen=True)
class Posterior:
    """q(x_s | x_t, x0), a Gaussian.

    Attributes:
        mean: its mean.
        std: its standard deviation, sigma_{t|s} sigma_s / sigma_t, shaped to multiply the mean.
        std_large: sigma_{t|s}, the standard deviation of q(x_t | x_s) up to scale; DDPM's "fixed large" choice.
    """

    mean: Float[Tensor, "b *n"]
    std: Float[Tensor, "b *m"]
    std_large: Float[Tensor, "b *m"]


@register(
    "gaussian",
    description="x_t = alpha x0 + sigma eps, with given positions held fixed",
    paper="Ho et al. 2020 (arXiv 2006.11239); Kingma et al. 2021 (2107.00630); Gong et al. 2023 (2210.08933)",
)
class GaussianProcess(Part):
    """x_t = m + alpha(t) (x0 - m) + sigma(t) eps, eps ~ N(0, I), where the mean m of the prior is 0 here.

    Times have shape [b] and are broadcast over the rest of the state; where the schedule knows positions, alpha and
    sigma are [b, l], and each position has its own. Coefficients are computed in float64 and rounded to the state's
    dtype once. The variance need not be kept: alpha and sigma are whatever the schedule says.

    Attributes:
        schedule: gives alpha and sigma.
        learns_mean: whether m is a parameter of the network, see :mod:`dlkit.diffusion.processes.mean_shift`.
    """

    schedule: part_of(schedules.registry) = "sqrt"  # type: ignore[valid-type]
    model_config = {"validate_default": True}
    learns_mean: ClassVar[bool] = False

    def model_post_init(self, context: Any, /) -> None:
        _ = self.mean  # made now, because a compiled graph cannot make it

    @cached_property
    def mean(self) -> Tensor | None:
        """m, shape [d], or None where it is 0."""
        return None

    def around(self, mean: Float[Tensor, " d"] | None) -> Self:
        """This process with another m. The tensor is shared: gradients reach it."""
        if mean is self.mean:
            return self
        shifted = self.model_copy()
        # no private attribute of pydantic's, as their look-up breaks a compiled graph
        object.__setattr__(shifted, "mean", mean)
        return shifted

    def under(self, schedule: Schedule) -> Self:
        """This process with another schedule, which may hold weights."""
        other = self.model_copy(update={"schedule": schedule})
        object.__setattr__(other, "mean", self.mean)
        return other

    def for_vocabulary(self, vocab_size: int) -> Self:
        """This process, its schedule told how many tokens there are."""
        return self.under(self.noise_schedule.for_vocabulary(vocab_size))

    @property
    def noise_schedule(self) -> Schedule:
        """The schedule with its type."""
        return self.schedule  # type: ignore[return-value]

    @property
    def sigma_0(self) -> float | Float[Tensor, "l 1"]:
        """sigma at the lowest noisy time, of each position if they differ.

        DiffuSeq adds this much noise to its embeddings in training.
        """
        t_min = torch.tensor(self.noise_schedule.t_min, dtype=torch.float64)
        sigma = self.noise_schedule.sigma(t_min).detach()
        return float(sigma) if sigma.ndim == 0 else sigma[:, None]

    def alpha(self, t: Float[Tensor, " b"], like: Float[Tensor, "b *n"]) -> Float[Tensor, "b *m"]:
        """alpha(t), shaped to multiply ``like``."""
        return _broadcast(self.noise_schedule.alpha(t), like)

    def sigma(self, t: Float[Tensor, " b"], like: Float[Tensor, "b *n"]) -> Float[Tensor, "b *m"]:
        """sigma(t), shaped to multiply ``like``."""
        return _broadcast(self.noise_schedule.sigma(t), like)

    def prior(self, eps: Float[Tensor, "b *n"], t: float = 1.0, variance: float = 1.0) -> Float[Tensor, "b *n"]:
        """A state at t from standard normal noise where nothing is known of the text.

        It is sigma(t) eps where the variance explodes. Elsewhere it is as large as a state of text whose coordinates
        have the given variance, sqrt(alpha^2 variance + sigma^2) eps + (1 - alpha) m; so it is eps + m where the
        schedule keeps unit variance, whose alpha m is in the text, and sigma(1) eps at t = 1 where alpha(1) = 0.
        """
        if isinstance(self.schedule, VariancePreserving) and variance == 1.0:
            return eps if self.mean is None else eps + self.mean
        times = eps.new_full((len(eps),), t, dtype=torch.float64)
        size = self.sigma(times, eps)
        if not isinstance(self.schedule, VarianceExploding):
            size = torch.hypot(math.sqrt(variance) * self.alpha(times, eps), size)
        return self._shifted(size * eps, 1.0 - self.alpha(times, eps))

    def network_input(
        self, x_t: Float[Tensor, "b *n"], t: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *n"]:
        """What a network is given for x_t: x_t itself; where the variance explodes, x_t / sqrt(1 + sigma^2).

        The latter has unit variance if texts have (EDM, arXiv 2206.00364, eq. 7, c_in with sigma_data = 1). The given
        positions have no noise and are not scaled.
        """
        if not isinstance(self.schedule, VarianceExploding):
            return x_t
        scaled = x_t * _broadcast((1.0 + self.noise_schedule.sigma(t).square()).rsqrt(), x_t)
        return scaled if cond is None else cond.apply(scaled)

    def absorb(
        self, x: Float[Tensor, "b l d"], sigma: Float[Tensor, "b *n"], uniforms: Callable[[], Float[Tensor, "b l"]]
    ) -> Float[Tensor, "b l d"]:
        """Some tokens of a noisy state replaced by m; none of them here."""
        return x

    def q_sample(
        self,
        x0: Float[Tensor, "b *n"],
        t: Float[Tensor, " b"],
        eps: Float[Tensor, "b *n"],
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *n"]:
        """m + alpha (x0 - m) + sigma eps; with a condition its given positions stay as they are in the anchor."""
        if self.mean is None:
            anchor, mask = (None, None) if cond is None else (cond.anchor, cond.mask)
            return noising(x0, eps, self.noise_schedule.alpha(t), self.noise_schedule.sigma(t), anchor, mask)
        alpha = self.alpha(t, x0)
        x_t = self._shifted(alpha * x0 + self.sigma(t, x0) * eps, 1.0 - alpha)
        return x_t if cond is None else cond.apply(x_t)

    def posterior(
        self, x_t: Float[Tensor, "b *n"], x0: Float[Tensor, "b *n"], t: Float[Tensor, " b"], s: Float[Tensor, " b"]
    ) -> Posterior:
        """q(x_s | x_t, x0) for any 0 <= s < t <= 1.

        With a = alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2 (the variance of q(x_t | x_s)):
        mean = (a sigma_s^2 x_t + alpha_s v x0) / sigma_t^2, variance = v sigma_s^2 / sigma_t^2
        (Kingma et al. 2021, eq. 30-32), for states that are counted from m. At s = 0 it is a point mass at x0.
        """
        schedule = self.noise_schedule
        alpha_s, var_s, var_t = schedule.alpha(s), schedule.sigma(s).square(), schedule.sigma(t).square()
        ratio = schedule.alpha(t) / alpha_s
        step_var = (var_t - ratio.square() * var_s).clamp_min(0.0)
        on_x_t, on_x0 = ratio * var_s / var_t, alpha_s * step_var / var_t
        mean = _broadcast(on_x_t, x_t) * x_t + _broadcast(on_x0, x_t) * x0
        mean = self._shifted(mean, _broadcast(1.0 - on_x_t - on_x0, x_t))
        std = _broadcast((step_var * var_s / var_t).sqrt(), x_t)
        return Posterior(mean, std, _broadcast(step_var.sqrt(), x_t))

    def ddim(
        self,
        x_t: Float[Tensor, "b *n"],
        x0: Float[Tensor, "b *n"],
        t: Float[Tensor, " b"],
        s: Float[Tensor, " b"],
        std: Float[Tensor, "b *m"] | None = None,
        noise: Float[Tensor, "b *n"] | None = None,
    ) -> Float[Tensor, "b *n"]:
        """m + alpha_s (x0 - m) + sqrt(sigma_s^2 - std^2) eps + std noise, with the eps that x0 implies at t.

        Song et al. 2021 (arXiv 2010.02502), eq. 12. Without ``std`` it is deterministic, and s may lie above t: a step
        of the ODE in the direction of the noise.
        """
        eps = self.convert(x0, x_t, t, "x0", "eps")
        alpha_s, sigma_s = self.alpha(s, x0), self.sigma(s, x0)
        if std is not None:
            sigma_s = (sigma_s.square() - std.square()).clamp_min(0.0).sqrt()
        x_s = self._shifted(alpha_s * x0 + sigma_s * eps, 1.0 - alpha_s)
        return x_s if std is None or noise is None else x_s + std * noise

    def convert(
        self,
        value: Float[Tensor, "b *n"],
        x_t: Float[Tensor, "b *n"],
        t: Float[Tensor, " b"],
        source: Target,
        to: Target,
    ) -> Float[Tensor, "b *n"]:
        """From one prediction to another at (x_t, t), by way of the pair (x0, eps).

        The formulas are in :mod:`dlkit.diffusion.parameterization`; among them is Tweedie's, E[x0 | x_t] =
        (x_t + sigma^2 score) / alpha. x_t and x0 are counted from m, so that v = alpha eps - sigma (x0 - m) and
        velocity = alpha' (x0 - m) + sigma' eps; like eps and score they do not move with m.

        Args:
            value: shaped as x_t.
            x_t: noisy states.
            t: their times.
            source: what ``value`` is.
            to: what is wanted.

        Raises:
            ValueError: ``source`` or ``to`` is unknown.
        """
        if source not in TARGETS or to not in TARGETS:
            raise ValueError(f"cannot convert {source!r} to {to!r}; known: {', '.join(TARGETS)}")
        if source == to:
            return value
        level = self._level(t, x_t)
        if self.mean is None:
            return level.value(*level.pair(value, source, x_t), to)
        x = self._shifted(x_t, level.shaped(level.alpha) - 1.0)
        x0, eps = level.pair(self._shifted(value, level.share_of_x0(source)), source, x)
        return self._shifted(level.value(x0, eps, to), -level.share_of_x0(to))

    def _level(self, t: Float[Tensor, " b"], like: Float[Tensor, "b *n"]) -> Level:
        """The coefficients at t, to be applied to states like that one."""
        schedule = self.noise_schedule
        slopes = lambda: (schedule.d_alpha(t), schedule.d_sigma(t))  # noqa: E731
        return Level(schedule.alpha(t), schedule.sigma(t), slopes, lambda coefficient: _broadcast(coefficient, like))

    def _shifted(self, x: Float[Tensor, "b *n"], share: Float[Tensor, "b *m"]) -> Float[Tensor, "b *n"]:
        """x + share m."""
        return x if self.mean is None else x + share * self.mean.to(x.dtype)


def _broadcast(coefficient: Float[Tensor, "b *l"], like: Float[Tensor, "b *n"]) -> Float[Tensor, "b *m"]:
    """[b] -> [b, 1, ...] or [b, l] -> [b, l, 1, ...] in the dtype of ``like``."""
    return coefficient.to(like.dtype).reshape(*coefficient.shape, *(1,) * (like.ndim - coefficient.ndim))
