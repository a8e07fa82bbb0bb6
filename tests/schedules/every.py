"""Every registered schedule, with settings drawn where it has some."""

import math
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from dlkit import schedules
from dlkit.part import from_spec
from dlkit.schedules._base import DiscreteSchedule, Schedule

NAMES = schedules.registry.files()


def at(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def table(rates: list[float], rows: int) -> list[list[float]]:
    """alpha_bar = exp(-rate u^2), u = .1 to 1: a column for each rate."""
    return [[math.exp(-rate * (0.1 + 0.9 * i / (rows - 1)) ** 2) for rate in rates] for i in range(rows)]


def steps(low: int, high: int = 400) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"steps": st.integers(low, high)})


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """Evenly on a logarithmic scale."""
    return st.floats(math.log(low), math.log(high)).map(lambda u: min(max(math.exp(u), low), high))


SETTINGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "sqrt": steps(2),
    "cosine": steps(2),
    "trunc_cos": steps(2),
    "linear": steps(21),
    "pw_lin": steps(21),
    "trunc_lin": steps(30),  # with fewer the last alpha_bar is below the smallest float that has all its digits
    "tan": st.fixed_dictionaries({"d": between(0.1, 100.0), "lowest": between(1e-5, 0.1)}),
    "trig": st.fixed_dictionaries({"lowest": between(1e-5, 0.1)}),
    "rectified_flow": st.fixed_dictionaries({"shift": between(0.05, 20.0), "lowest": between(1e-5, 0.1)}),
    "log_linear": st.fixed_dictionaries({"eps": between(1e-6, 0.1), "lowest": between(1e-5, 0.1)}),
    "karras": st.fixed_dictionaries(
        {"sigma_min": between(1e-4, 0.5), "sigma_max": between(1.0, 1000.0), "rho": st.floats(1.0, 10.0)}
    ),
    "geometric": st.fixed_dictionaries(
        {"sigma_min": between(1e-4, 0.5), "sigma_max": between(1.0, 1000.0), "steps": st.integers(2, 400)}
    ),
    "learned_gamma": st.fixed_dictionaries(
        {"gamma_0": st.floats(-12.0, -1.0), "gamma_1": st.floats(0.0, 12.0), "lowest": between(1e-5, 0.1)}
    ),
    "token_accuracy": st.fixed_dictionaries(
        {"vocab_size": st.sampled_from([2, 7, 50, 3000]), "lowest": between(1e-5, 0.1)}
    ),
    "per_position": st.fixed_dictionaries(
        {"table": st.builds(table, st.lists(st.floats(1.0, 12.0), min_size=1, max_size=4), st.integers(2, 60))}
    ),
}


@st.composite
def schedule(draw: st.DrawFn, name: str) -> Schedule:
    """A schedule of that name; one that is new here has its defaults, or those it asks to be tried with."""
    trial = schedules.get(name).trial
    return from_spec(schedules.registry, {"name": name, **draw(SETTINGS.get(name, st.just(trial)))})


def has_corner(part: Schedule, t: float, width: float = 1e-6) -> bool:
    """Whether pieces of a schedule meet near t."""
    return isinstance(part, DiscreteSchedule) and abs(t * part.steps - round(t * part.steps)) < width * part.steps
