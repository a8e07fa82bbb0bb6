"""What a schedule is, and what is common to those that keep the variance, let it explode, or have steps."""

import math
from abc import abstractmethod
from typing import Annotated, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from dlkit.errors import UserError
from dlkit.part import Part
from dlkit.schedules._respacing import space_timesteps

Times = Float[Tensor, " *b"]
Coefficients = Float[Tensor, "..."]
"""[*b], or [*b, l] where the l positions of a text have noise of their own."""


class Schedule(Part):
    """alpha(t) and sigma(t) of x_t = alpha x0 + sigma eps, t in [0, 1].

    At t = 0 the text is clean: alpha = 1, sigma = 0. From there on alpha does not rise, sigma does not fall, and the
    log SNR falls. Nothing else is assumed: alpha^2 + sigma^2 may be anything.

    Times and results are float64: near t = 0 differences such as 1 - alpha lose their digits in float32. What depends
    on times is a pure function of tensors, without a look at their values: it compiles into one graph, and never makes
    the host wait for the device.
    """

    @property
    def positions(self) -> int | None:
        """How many positions have a noise level of their own; None if all of a text share one, as is usual."""
        return None

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The lowest noisy time the network is trained at."""

    def weights(self) -> nn.Module | None:
        """What the schedule learns, new or, if it holds some, its own; None where its settings say all."""
        return None

    def holding(self, weights: nn.Module) -> Self:
        """This schedule with weights, to which gradients go. Raises ``TypeError`` where it learns nothing."""
        raise TypeError(f"the schedule {self.registered_name!r} learns nothing")

    def for_vocabulary(self, vocab_size: int) -> "Schedule":
        """This schedule for texts of so many different tokens; the same for all but those that count them."""
        return self

    def check(self) -> None:
        """Raise ``UserError`` where what was learned is no schedule; it looks at values, so the host waits."""

    @abstractmethod
    def alpha(self, t: Times) -> Coefficients:
        """What the text is multiplied by."""

    @abstractmethod
    def sigma(self, t: Times) -> Coefficients:
        """Standard deviation of the noise."""

    @abstractmethod
    def d_alpha(self, t: Times) -> Coefficients:
        """d alpha / dt."""

    @abstractmethod
    def d_sigma(self, t: Times) -> Coefficients:
        """d sigma / dt; may be infinite at t = 0."""

    @abstractmethod
    def inverse(self, log_snr: Coefficients) -> Coefficients:
        """The time t at which log SNR has the given value; the nearest end where it is out of range."""

    def log_snr(self, t: Times) -> Coefficients:
        """log(alpha^2 / sigma^2); infinite at t = 0."""
        return 2.0 * (torch.log(self.alpha(t)) - torch.log(self.sigma(t)))

    def d_log_snr(self, t: Times) -> Coefficients:
        """d log SNR / dt = 2 (d_alpha / alpha - d_sigma / sigma); infinite where one of them is 0."""
        return 2.0 * (self.d_alpha(t) / self.alpha(t) - self.d_sigma(t) / self.sigma(t))

    def network_time(self, t: Times) -> Times:
        """What the network is fed: 1000 t, which a sinusoid made for a thousand steps can tell apart."""
        return 1000.0 * t.double()

    def between(self, u: Times, t_min: float, t_max: float) -> Times:
        """Spread uniforms over the times the network may be trained at, from ``t_min`` to ``t_max``."""
        return t_min + u.double() * (t_max - t_min)

    def grid(self, steps: int) -> list[float]:
        """The times of ``steps`` network calls, falling from 1 to ``t_min``: 1 alone for one step.

        They are 1 and t_min + (1 - t_min) j / steps for j < steps - 1, so all of them are in the grid of twice as many
        steps. The price is that the first step is twice as long as the others.

        Raises:
            ValueError: the schedule has no so many steps.
        """
        self._has_so_many(steps)
        low = self.t_min
        return [1.0, *(low + (1.0 - low) * (j / steps) for j in reversed(range(steps - 1)))]

    def even(self, steps: int) -> list[float]:
        """The same number of times with the same ends, evenly spaced. Raises as :meth:`grid` does."""
        self._has_so_many(steps)
        spacing = (1.0 - self.t_min) / max(steps - 1, 1)
        return [1.0, *(self.t_min + j * spacing for j in reversed(range(steps - 1)))]

    def respaced(self, spec: str) -> list[float]:
        """The times that a respacing string such as "ddim20" or "4,6,10" keeps, falling.

        Raises:
            UserError: the string fits no grid of this schedule.
        """
        raise UserError(f"grid {spec!r}: the schedule {self.registered_name!r} has no steps to choose from; use 'even'")

    def _has_so_many(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")


class ContinuousSchedule(Schedule):
    """A schedule without steps.

    Attributes:
        lowest: the lowest noisy time the network is trained at.
    """

    lowest: float = Field(default=0.001, gt=0.0, le=0.5)

    @property
    def t_min(self) -> float:
        return self.lowest


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, given by alpha_bar = alpha^2."""

    @abstractmethod
    def alpha_bar(self, t: Times) -> Coefficients:
        """alpha(t)^2, falling from 1 at t = 0."""

    @abstractmethod
    def d_alpha_bar(self, t: Times) -> Coefficients:
        """Derivative of alpha(t)^2 with respect to t."""

    def alpha(self, t: Times) -> Coefficients:
        """sqrt(alpha_bar)."""
        return self.alpha_bar(t).sqrt()

    def sigma(self, t: Times) -> Coefficients:
        """sqrt(1 - alpha_bar)."""
        return (1.0 - self.alpha_bar(t)).clamp_min(0.0).sqrt()

    def d_alpha(self, t: Times) -> Coefficients:
        """d alpha / dt = d_alpha_bar / (2 alpha)."""
        return self.d_alpha_bar(t) / (2.0 * self.alpha(t))

    def d_sigma(self, t: Times) -> Coefficients:
        """d sigma / dt = -d_alpha_bar / (2 sigma); infinite at t = 0."""
        return -self.d_alpha_bar(t) / (2.0 * self.sigma(t))

    def log_snr(self, t: Times) -> Coefficients:
        """log(alpha^2 / sigma^2); infinite at t = 0."""
        alpha_bar = self.alpha_bar(t)
        return torch.log(alpha_bar) - torch.log1p(-alpha_bar)


class VarianceExploding(Schedule):
    """alpha = 1, and sigma grows far beyond the text, until that is lost in it.

    A run starts from sigma(1) eps, and the network sees x_t / sqrt(1 + sigma^2):
    :meth:`dlkit.diffusion.processes.gaussian.GaussianProcess.network_input`.
    """

    def alpha(self, t: Times) -> Times:
        """1."""
        return torch.ones_like(t, dtype=torch.float64)

    def d_alpha(self, t: Times) -> Times:
        """0."""
        return torch.zeros_like(t, dtype=torch.float64)

    def log_snr(self, t: Times) -> Times:
        """-2 log sigma; infinite at t = 0."""
        return -2.0 * torch.log(self.sigma(t))


LeastSigma = Annotated[float, Field(ge=1e-6)]
LargestSigma = Annotated[float, Field(le=1e6)]


class SigmaRange(VarianceExploding):
    """sigma grows from one value to another.

    Attributes:
        sigma_min: at t_min.
        sigma_max: at t = 1.
    """

    sigma_min: LeastSigma
    sigma_max: LargestSigma

    @model_validator(mode="after")
    def _range_holds_something(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min} is not below sigma_max={self.sigma_max}")
        return self


class DiscreteSchedule(Schedule):
    """A schedule that its paper defines through T steps: index i is t = (i+1)/T, and t = 0 is clean text.

    Attributes:
        steps: T.
    """

    steps: int = Field(default=2000, ge=2)

    @property
    def t_min(self) -> float:
        """1/T, index 0 of the original."""
        return 1.0 / self.steps

    def network_time(self, t: Times) -> Times:
        """(t T - 1) 1000 / T: the original's index scaled to [0, 1000), multiplied in float32 as there."""
        index = (t.double() * self.steps - 1.0).float()
        return (index * (1000.0 / self.steps)).double()

    def time_of(self, index: Int[Tensor, " *b"]) -> Times:
        """t = (i + 1) / T of the original's index i."""
        return (index.double() + 1.0) / self.steps

    def between(self, u: Times, t_min: float, t_max: float) -> Times:
        """Indices from ``t_min`` to ``t_max``, both included, each equally likely."""
        low, high = round(t_min * self.steps), round(t_max * self.steps)
        return (low + torch.floor(u.double() * (high - low + 1)).clamp(max=high - low)) / self.steps

    def grid(self, steps: int) -> list[float]:
        """Index T - 1, and floor(j T / steps) for j < steps - 1, down to 0; T - 1 alone for one step.

        All of them are in the grid of twice as many steps, whether that divides T or not. The price is that the first
        step is twice as long as the others.
        """
        self._has_so_many(steps)
        kept = [j * self.steps // steps for j in range(steps - 1)]
        return [(index + 1) / self.steps for index in (self.steps - 1, *reversed(kept))]

    def even(self, steps: int) -> list[float]:
        """Evenly spaced indices from T - 1 to 0, both included (T - 1 alone for one step)."""
        self._has_so_many(steps)
        spacing = (self.steps - 1) / max(steps - 1, 1)
        return [(self.steps - round(k * spacing)) / self.steps for k in range(steps)]

    def respaced(self, spec: str) -> list[float]:
        return [(index + 1) / self.steps for index in reversed(space_timesteps(self.steps, spec))]

    def _has_so_many(self, steps: int) -> None:
        if not 1 <= steps <= self.steps:
            raise ValueError(f"steps must be between 1 and {self.steps}, not {steps}")


class CappedSchedule(VariancePreserving, DiscreteSchedule):
    """Discrete schedules that cap each beta, extended to all t.

    The original defines T steps through a decreasing f with beta_i = min(1 - f((i+1)/T) / f(i/T), .999) and
    alpha_bar_i = prod (1 - beta_j). Only the last step is capped, so with t = (i+1)/T

        alpha_bar(t) = f(t) / f(0)                      for t <= t_c = 1 - 1/T
        alpha_bar(t) = alpha_bar(t_c) * .001^((t - t_c) T)   for t_c < t <= 1  (log-linear in between)

    which agrees with the table on its grid and is continuous and strictly falling everywhere.

    Attributes:
        steps: T. Index i of the original is t = (i+1)/T. From about 9,990 on, sqrt would cap more than the last step.
    """

    steps: int = Field(default=2000, ge=2, le=9000)

    @abstractmethod
    def _f(self, t: Times) -> Times:
        """alpha_bar before the cap, with value 1 at t = 0."""

    @abstractmethod
    def _d_f(self, t: Times) -> Times: ...

    @abstractmethod
    def _f_inverse(self, alpha_bar: Times) -> Times: ...

    @property
    def _cap(self) -> float:
        return 1.0 - 1.0 / self.steps

    def alpha_bar(self, t: Times) -> Times:
        t = t.double()
        log_tail = (t - self._cap).clamp_min(0.0) * self.steps * LOG_CAP
        return self._f(t.clamp(max=self._cap)) * torch.exp(log_tail)

    def d_alpha_bar(self, t: Times) -> Times:
        t = t.double()
        return torch.where(t > self._cap, self.alpha_bar(t) * self.steps * LOG_CAP, self._d_f(t.clamp(max=self._cap)))

    def inverse(self, log_snr: Times) -> Times:
        alpha_bar = torch.sigmoid(log_snr.double())
        at_cap = self._f(torch.full((), self._cap, dtype=torch.float64, device=log_snr.device))
        tail = self._cap + torch.log((alpha_bar / at_cap).clamp(max=1.0)) / (self.steps * LOG_CAP)
        return torch.where(alpha_bar < at_cap, tail, self._f_inverse(torch.maximum(alpha_bar, at_cap)))


LOG_CAP = math.log(0.001)
