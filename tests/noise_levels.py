"""Forward processes to try conversions on: every registered schedule, and paths with odd ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from pydantic import PrivateAttr
from torch import Tensor

from dlkit import schedules
from dlkit.diffusion.parameterization import Target
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.part import from_spec
from schedules.every import NAMES, schedule, table

Curve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Path:
    """alpha and sigma with their derivatives, and nothing else of a schedule."""

    alpha: Curve
    sigma: Curve
    d_alpha: Curve
    d_sigma: Curve
    positions: None = None


class OnPath(GaussianProcess):
    """The Gaussian process along a path."""

    _path: Any = PrivateAttr()

    @property
    def noise_schedule(self) -> Any:
        return self._path


def along(path: Path) -> GaussianProcess:
    process = OnPath()
    process._path = path
    return process


LENGTH = 3
PATHS = {
    "slow at both ends": Path(  # no rate at t = 0 and 1
        lambda t: 1 - t**2 * (3 - 2 * t),
        lambda t: t**2 * (3 - 2 * t),
        lambda t: -6 * t * (1 - t),
        lambda t: 6 * t * (1 - t),
    ),
    "steep at both ends": Path(  # infinite rates at t = 0 (of sigma) and t = 1 (of alpha)
        lambda t: (1 - t).sqrt(), lambda t: t.sqrt(), lambda t: -0.5 / (1 - t).sqrt(), lambda t: 0.5 / t.sqrt()
    ),
}


def with_schedule(name: str) -> GaussianProcess:
    """As it is tried, with :data:`LENGTH` positions if it knows them."""
    trial = {"table": table([3.0, 8.0, 5.0], 20)} if name == "per_position" else schedules.get(name).trial
    return GaussianProcess.model_validate({"schedule": from_spec(schedules.registry, {"name": name, **trial})})


PROCESSES = {name: with_schedule(name) for name in NAMES} | {name: along(path) for name, path in PATHS.items()}


def drawn(name: str) -> st.SearchStrategy[GaussianProcess]:
    """The process of that name, whose schedule has drawn settings if it has any."""
    if name in PATHS:
        return st.just(PROCESSES[name])
    return schedule(name).map(lambda part: GaussianProcess.model_validate({"schedule": part}))


def length_of(process: GaussianProcess) -> int:
    """How many positions a text has."""
    return process.noise_schedule.positions or LENGTH


@dataclass(frozen=True)
class Coefficients:
    """What a process makes of x0 and eps at some times, shaped to multiply a state."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    @classmethod
    def of(cls, process: GaussianProcess, t: Tensor, like: Tensor) -> "Coefficients":
        schedule = process.noise_schedule
        found = (getattr(schedule, name)(t) for name in ("alpha", "sigma", "d_alpha", "d_sigma"))
        return cls(*(c.reshape(*c.shape, *(1,) * (like.ndim - c.ndim)) for c in found))

    def everything(self, x0: Tensor, eps: Tensor) -> dict[Target, Tensor]:
        """x0 and eps in each parameterisation, by definition."""
        return {
            "x0": x0,
            "eps": eps,
            "v": self.alpha * eps - self.sigma * x0,
            "score": -eps / self.sigma,
            "velocity": self.d_alpha * x0 + self.d_sigma * eps,
        }
