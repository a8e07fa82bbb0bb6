"""What a sampler is."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.part import Part
from dlkit.schedules._base import Schedule
from dlkit.schedules._respacing import kept_by

Noise = Callable[[int], Float[Tensor, "b l d"]]
"""noise(k): the k-th standard normal state of a run; 0 is the start."""

GRIDS = ("even", "nested")

Observer = Callable[[int, float, Float[Tensor, "b l d"], Float[Tensor, "b l d"]], None]
"""observer(k, t, x_t, x0): called after each network call with what went in and what came out."""


class Sampler(Part):
    """From noise to a clean state.

    Attributes:
        any_steps: a student that has it was taught to take any number of steps by it.
        steps: network calls.
    """

    any_steps: ClassVar[bool] = False

    steps: int = Field(default=1, ge=1)

    @abstractmethod
    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        """Run the sampler; the given positions of the result are the condition's anchor."""

    def calls(self, schedule: Schedule) -> int:
        """Network calls with this schedule. Raises ``UserError`` if the sampler cannot run with it."""
        return self.steps

    @property
    def starts(self) -> int | None:
        """How many different noises a run can begin with, so that no two samples of a source need share one.

        None is any number.
        """
        return None


@dataclass(frozen=True)
class Step:
    """A step from t to s with all that is known at t.

    Attributes:
        x_t: state; x0: its prediction of the clean one.
        t, s: times.
        noise: draws of this step: ``noise(0)``, ``noise(1)``, ... are standard normal states.
        before: x0 and t of the step before, for a sampler that ``looks_back``; None in the first.
    """

    x_t: Float[Tensor, "b l d"]
    x0: Float[Tensor, "b l d"]
    t: Float[Tensor, " b"]
    s: Float[Tensor, " b"]
    noise: Noise
    before: tuple[Float[Tensor, "b l d"], Float[Tensor, " b"]] | None = None


class Walk(Sampler):
    """A sampler that goes down step by step from t = 1, with one network call at each time.

    Beside the state it holds the last prediction and the one before, however many steps there are. A network that
    conditions on an earlier estimate of x0 is given its last, as it was before rounding.

    Attributes:
        looks_back: a step asks what the step before it found.
        rounding: replace every prediction of x0 by its nearest embedding before it is used, as DiffuSeq does.
        rounding_times: lowest and highest time at which that is done; DiffuSeq's ``clamp_step`` is one of the two.
        clip: bound of every coordinate of x0, applied after rounding; None for none. DiffuSeq's ``clip_denoised`` is 1.
    """

    looks_back: ClassVar[bool] = False

    steps: int = Field(default=50, ge=1)
    rounding: bool = False
    rounding_times: tuple[float, float] = (0.0, 1.0)
    clip: float | None = Field(default=None, gt=0.0)

    @model_validator(mode="after")
    def _rounds_at_some_time(self) -> Self:
        low, high = self.rounding_times
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"rounding_times={low}, {high}: give the lower time first, both between 0 and 1")
        return self

    @abstractmethod
    def path(self, schedule: Schedule) -> list[tuple[float, float]]:
        """The steps (t, s): where the network is called, and where the state is taken from there."""

    @abstractmethod
    def step(self, process: GaussianProcess, now: Step) -> Float[Tensor, "b l d"]:
        """x_s, for s > 0: at s = 0 every posterior and every solution of the ODE is x0 itself."""

    def calls(self, schedule: Schedule) -> int:
        return len(self.path(schedule))

    def clean(
        self, denoiser: Denoiser, x_t: Float[Tensor, "b l d"], t: Float[Tensor, " b"], cond: Condition | None
    ) -> Float[Tensor, "b l d"]:
        """One network call at times that are all the same: x0, rounded and clipped as the settings say."""
        return self.tidied(denoiser, denoiser.predict(x_t, t, cond).x0, float(t[0]))

    def tidied(self, denoiser: Denoiser, x0: Float[Tensor, "b l d"], t: float) -> Float[Tensor, "b l d"]:
        """A prediction at t, rounded and clipped as the settings say."""
        low, high = self.rounding_times
        if self.rounding and low <= t <= high:
            x0 = denoiser.space.rounded(x0)
        return x0 if self.clip is None else x0.clamp(-self.clip, self.clip)

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        process, before, raw = denoiser.process, None, None
        path = self.path(process.noise_schedule)
        x = cond.apply(denoiser.prior(noise(0)))
        for k, (now, to) in enumerate(path):
            t = torch.full((len(x),), now, dtype=torch.float64, device=x.device)
            found = denoiser.predict(x, t, cond, self_cond=raw).x0
            raw = found if denoiser.self_conditions else None
            x0 = self.tidied(denoiser, found, now)
            if observe is not None:
                observe(k, now, x, x0)
            draws = lambda j, k=k: noise(k + 1 + j * len(path))  # noqa: E731 - no two draws of a run are the same
            x = x0 if to == 0.0 else self.step(process, Step(x, x0, t, torch.full_like(t, to), draws, before))
            x, before = cond.apply(x), (x0, t) if self.looks_back else None
            del found, x0  # they may be gigabytes, which the next call needs
        return x


class GridSampler(Walk):
    """A walk down a grid t_1 > t_2 > ... > t_n > 0, and from t_n to 0.

    Attributes:
        grid: "even" for evenly spaced times from 1 to the lowest the schedule has, both included; "nested" for times
            with the same ends that are all in the grid of twice as many steps; or a respacing string of the original,
            such as "ddim20" or "4,6,10", whose number of steps ``steps`` then is.
    """

    grid: str = "even"

    @model_validator(mode="before")
    @classmethod
    def _steps_of_the_grid(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and isinstance(grid := settings.get("grid", "even"), str) and grid not in GRIDS:
            try:
                count = kept_by(grid)
            except UserError as error:
                raise ValueError(str(error)) from None
            return {"steps": count, **settings}
        return settings

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        if self.grid not in GRIDS and self.steps != kept_by(self.grid):
            raise ValueError(f"steps={self.steps} contradicts grid {self.grid!r}, which has {kept_by(self.grid)} steps")
        return self

    def path(self, schedule: Schedule) -> list[tuple[float, float]]:
        return list(pairwise([*self._times(schedule), 0.0]))

    def _times(self, schedule: Schedule) -> list[float]:
        if self.grid == "even":
            return schedule.even(self.steps)
        return schedule.grid(self.steps) if self.grid == "nested" else schedule.respaced(self.grid)
