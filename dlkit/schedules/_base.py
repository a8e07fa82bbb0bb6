"""What a schedule is, and what the schedules that are defined on a grid have in common."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dlkit.errors import UserError
from dlkit.part import Part
from dlkit.schedules._respacing import space_timesteps

Times = Float[Tensor, " *b"]


class Schedule(Part):
    """Variance-preserving schedule: alpha(t)^2 + sigma(t)^2 = 1.

    Times and results are float64: near t = 0 sigma^2 = 1 - alpha^2 loses its digits in float32.
    """

    @abstractmethod
    def alpha_bar(self, t: Times) -> Times:
        """alpha(t)^2, falling from 1 at t = 0."""

    @abstractmethod
    def d_alpha_bar(self, t: Times) -> Times:
        """Derivative of alpha(t)^2 with respect to t."""

    @abstractmethod
    def inverse(self, log_snr: Times) -> Times:
        """The time t at which log SNR has the given value."""

    @abstractmethod
    def network_time(self, t: Times) -> Times:
        """What the network is fed."""

    @abstractmethod
    def grid(self, steps: int) -> list[float]:
        """The times of ``steps`` network calls, falling from 1; the last call is at the lowest noise level there is."""

    def respaced(self, spec: str) -> list[float]:
        """The times that a respacing string such as "ddim20" or "4,6,10" keeps, falling.

        Raises:
            UserError: the string fits no grid of this schedule.
        """
        raise UserError(f"grid {spec!r}: the schedule {self.registered_name!r} has no steps to choose from; use 'even'")

    @abstractmethod
    def between(self, u: Times, t_min: float, t_max: float) -> Times:
        """Spread uniforms over the times the network may be trained at, from ``t_min`` to ``t_max``."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The lowest noisy time the network is trained at."""

    def alpha(self, t: Times) -> Times:
        """sqrt(alpha_bar)."""
        return self.alpha_bar(t).sqrt()

    def sigma(self, t: Times) -> Times:
        """sqrt(1 - alpha_bar)."""
        return (1.0 - self.alpha_bar(t)).clamp_min(0.0).sqrt()

    def d_alpha(self, t: Times) -> Times:
        """d alpha / dt = d_alpha_bar / (2 alpha)."""
        return self.d_alpha_bar(t) / (2.0 * self.alpha(t))

    def d_sigma(self, t: Times) -> Times:
        """d sigma / dt = -d_alpha_bar / (2 sigma); infinite at t = 0."""
        return -self.d_alpha_bar(t) / (2.0 * self.sigma(t))

    def log_snr(self, t: Times) -> Times:
        """log(alpha^2 / sigma^2); infinite at t = 0."""
        alpha_bar = self.alpha_bar(t)
        return torch.log(alpha_bar) - torch.log1p(-alpha_bar)


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
        """(t T - 1) 1000 / T: the original's index scaled to [0, 1000)."""
        return (t.double() * self.steps - 1.0) * (1000.0 / self.steps)

    def time_of(self, index: Int[Tensor, " *b"]) -> Times:
        """t = (i + 1) / T of the original's index i."""
        return (index.double() + 1.0) / self.steps

    def between(self, u: Times, t_min: float, t_max: float) -> Times:
        """Indices from ``t_min`` to ``t_max``, both included, each equally likely."""
        low, high = round(t_min * self.steps), round(t_max * self.steps)
        return (low + torch.floor(u.double() * (high - low + 1)).clamp(max=high - low)) / self.steps

    def grid(self, steps: int) -> list[float]:
        """Evenly spaced indices from T - 1 to 0, both included (T - 1 alone for one step)."""
        if not 1 <= steps <= self.steps:
            raise ValueError(f"steps must be between 1 and {self.steps}, not {steps}")
        spacing = (self.steps - 1) / max(steps - 1, 1)
        return [(self.steps - round(k * spacing)) / self.steps for k in range(steps)]

    def respaced(self, spec: str) -> list[float]:
        return [(index + 1) / self.steps for index in reversed(space_timesteps(self.steps, spec))]


class CappedSchedule(DiscreteSchedule):
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
        at_cap = self._f(torch.tensor(self._cap, dtype=torch.float64, device=log_snr.device))
        tail = self._cap + torch.log((alpha_bar / at_cap).clamp(max=1.0)) / (self.steps * LOG_CAP)
        return torch.where(alpha_bar < at_cap, tail, self._f_inverse(torch.maximum(alpha_bar, at_cap)))


LOG_CAP = float(torch.log(torch.tensor(0.001, dtype=torch.float64)))
