"""Schedules that are given on a grid."""

from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlkit.schedules._base import Coefficients, DiscreteSchedule, Times, VariancePreserving
from dlkit.schedules._device import Constant


class GridSchedule(VariancePreserving, DiscreteSchedule):
    """alpha_bar_i on the grid t = (i+1)/T, 1 at t = 0, and linear in t between two grid points.

    It agrees with its table on the grid and is continuous and falling everywhere. d_alpha_bar jumps at the grid points,
    where it is the slope to the right. Where each of l positions has its own table, results have one more axis than the
    times, and ``inverse`` gives the time of each position.
    """

    @abstractmethod
    def _on_grid(self) -> Float[Tensor, "*l steps"]:
        """The T values of alpha_bar, float64; those of each position, if ``positions`` is not None."""

    @cached_property
    def _alpha_bars(self) -> Constant:
        """1, alpha_bar_0, ..., alpha_bar_{T-1}. To be made with the schedule, because a compiled graph cannot do it."""
        grid = self._on_grid()
        return Constant(torch.cat((torch.ones_like(grid[..., :1]), grid), -1))

    def _around(self, t: Times) -> tuple[Coefficients, Coefficients, Int[Tensor, " *b"]]:
        """alpha_bar at the two grid points around t, and the number of the first."""
        table = self._alpha_bars.on(t.device).movedim(-1, 0)
        before = (t * self.steps).floor().clamp(0, self.steps - 1).long()
        return table[before], table[before + 1], before

    def alpha_bar(self, t: Times) -> Coefficients:
        t = t.double()
        high, low, before = self._around(t)
        past = t * self.steps - before
        return high + (past if self.positions is None else past[..., None]) * (low - high)

    def d_alpha_bar(self, t: Times) -> Coefficients:
        high, low, _ = self._around(t.double())
        return (low - high) * self.steps

    def inverse(self, log_snr: Coefficients) -> Coefficients:
        table = self._alpha_bars.on(log_snr.device).reshape(-1, self.steps + 1)  # a row for each position, or one
        alpha_bar = torch.sigmoid(log_snr.double())
        rows = alpha_bar.reshape(-1, len(table)).T.contiguous()
        before = (torch.searchsorted(-table, -rows, right=True) - 1).clamp(0, self.steps - 1)
        high, low = table.gather(1, before), table.gather(1, before + 1)
        t = (before + (high - rows) / (high - low)).clamp(0, self.steps) / self.steps
        return t.T.reshape(alpha_bar.shape)


class TableSchedule(GridSchedule):
    """A schedule that is given by its betas: alpha_bar_i = prod (1 - beta_j)."""

    def model_post_init(self, context: Any, /) -> None:
        _ = self._alpha_bars

    @abstractmethod
    def betas(self) -> Float[Tensor, " steps"]:
        """The T variances of the steps, float64."""

    def _on_grid(self) -> Float[Tensor, " steps"]:
        return torch.cumprod(1.0 - self.betas(), 0)
