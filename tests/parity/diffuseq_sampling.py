"""Runs of dlkit's samplers with the start and the noise that a case records."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dlkit.decoders.linear_head import LinearHead
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.samplers._base import Sampler
from dlkit.schedules._base import DiscreteSchedule
from parity.cases import Case


def schedule_of(denoiser: Denoiser) -> DiscreteSchedule:
    """The schedule of a case's network, with its type."""
    schedule = denoiser.process.noise_schedule
    assert isinstance(schedule, DiscreteSchedule)
    return schedule


def condition(case: Case, denoiser: Denoiser, golden: dict[str, Tensor]) -> Condition:
    """The noise-free source as anchor, compared with the recorded one."""
    cond = Condition(denoiser.space.embed(golden["input_ids"]), golden["input_mask"].bool())
    case.close(cond.anchor, golden["x_source"], "x_source")
    return cond


@torch.no_grad()
def states(
    sampler: Sampler, denoiser: Denoiser, cond: Condition, start: Tensor, noise: Sequence[Tensor] | Tensor = ()
) -> tuple[list[float], Tensor]:
    """The times of the network calls, and the state after each step; the last one is what the sampler returns."""
    times, inputs = [], []

    def observe(k: int, t: float, x_t: Tensor, x0: Tensor) -> None:
        times.append(t)
        inputs.append(x_t)

    end = sampler.sample(denoiser, cond, recorded(start, noise), observe)
    return times, torch.stack([*inputs[1:], end])


def recorded(start: Tensor, noise: Sequence[Tensor] | Tensor) -> Callable[[int], Tensor]:
    """Draw 0 is the start state, draw k the k-th recorded noise."""
    return lambda k: start if k == 0 else noise[k - 1]


def tokens(denoiser: Denoiser, x: Tensor) -> Tensor:
    """What the original's program reads from a final state."""
    return LinearHead().decode(x, denoiser.space)


def number(text: str, name: str) -> float:
    """The value of ``name=...`` in the description of an array."""
    found = re.search(rf"{name}=(-?[\d.]*\d)", text)
    assert found, f"no {name} in {text!r}"
    return float(found[1])


def rounding_times(schedule: DiscreteSchedule, clamp_step: int, clamp_first: bool) -> tuple[float, float]:
    """Rounding at indices of at least ``clamp_step`` if it comes first, else at those of at most ``clamp_step``."""
    edge = (clamp_step + 1) / schedule.steps
    return (edge, 1.0) if clamp_first else (0.0, edge)
