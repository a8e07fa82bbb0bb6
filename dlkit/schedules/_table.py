"""Schedules that are given by their betas."""

from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlkit.schedules._base import DiscreteSchedule, Times, VariancePreserving
from dlkit.schedules._device import Constant


class TableSchedule(VariancePreserving, DiscreteSchedule):
    """alpha_bar_i = prod (1 - beta_j) on the grid t = (i+1)/T, 1 at t = 0, and linear in t between two grid points.

    It agrees with the table on its grid and is continuous and falling everywhere. d_alpha_bar jumps at the grid points,
    where it is the slope to the right.
    """

    def model_post_init(self, context: Any, /) -> None:
        _ = self._alpha_bars  # made now, because a compiled graph cannot make it

    def __eq__(self, other: object) -> bool:
        """By class and settings: the table beside them follows from these, and tensors do not compare as a whole."""
        return type(other) is type(self) and self.model_dump() == other.model_dump()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.model_dump_json()))

    @abstractmethod
    def betas(self) -> Float[Tensor, " steps"]:
        """The T variances of the steps, float64."""

    @cached_property
    def _alpha_bars(self) -> Constant:
        """1, alpha_bar_0, ..., alpha_bar_{T-1}."""
        return Constant(torch.cat((torch.ones(1, dtype=torch.float64), torch.cumprod(1.0 - self.betas(), 0))))

    def _around(self, t: Times) -> tuple[Times, Times, Int[Tensor, " *b"]]:
        """alpha_bar at the two grid points around t, and the number of the first."""
        table = self._alpha_bars.on(t.device)
        before = (t * self.steps).floor().clamp(0, self.steps - 1).long()
        return table[before], table[before + 1], before

    def alpha_bar(self, t: Times) -> Times:
        t = t.double()
        high, low, before = self._around(t)
        return high + (t * self.steps - before) * (low - high)

    def d_alpha_bar(self, t: Times) -> Times:
        high, low, _ = self._around(t.double())
        return (low - high) * self.steps

    def inverse(self, log_snr: Times) -> Times:
        alpha_bar = torch.sigmoid(log_snr.double())
        table = self._alpha_bars.on(log_snr.device)
        before = (torch.searchsorted(-table, -alpha_bar, right=True) - 1).clamp(0, self.steps - 1)
        high, low = table[before], table[before + 1]
        return (before + (high - alpha_bar) / (high - low)).clamp(0, self.steps) / self.steps
