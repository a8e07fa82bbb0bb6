"""Euler's method along the straight flow."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.samplers._base import Step
from dlkit.samplers.euler import Euler

B, L, D = 4, 3, 5
PROCESSES: dict[str, Any] = {
    "variance kept": GaussianProcess.model_validate({"schedule": "cosine"}),
    "variance explodes": GaussianProcess.model_validate({"schedule": "karras"}),
    "straight": GaussianProcess.model_validate({"schedule": "rectified_flow"}),
    "token accuracy": GaussianProcess.model_validate({"schedule": {"name": "token_accuracy", "vocab_size": 50}}),
    "around a mean": MeanShift().around(torch.linspace(-1, 1, D).double()),
}
T = torch.tensor([0.3, 0.5, 0.9, 0.99], dtype=torch.float64)


def step(process: GaussianProcess, guard: float) -> tuple[Tensor, Step]:
    x_t, x0 = torch.randn(2, B, L, D, generator=torch.Generator().manual_seed(0)).double().unbind(0)
    now = Step(x_t, x0, T, T / 3, lambda k: x_t)
    return Euler(guard=guard).step(process, now), now


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_without_the_guard_it_is_ddim(process: GaussianProcess) -> None:
    x_s, now = step(process, guard=0.0)
    assert_close(x_s, process.ddim(now.x_t, now.x0, now.t, now.s), rtol=1e-9, atol=1e-9)


def test_the_guard_is_in_the_quotient() -> None:
    process = PROCESSES["straight"]
    x_s, now = step(process, guard=0.1)
    c, c_s = (1.0 - now.t)[:, None, None], (1.0 - now.s)[:, None, None]
    assert_close(x_s, now.x_t + (c_s - c) * (now.x0 - now.x_t) / (1.0 - c + 0.1))


def test_the_guard_of_the_original_halves_a_step_that_begins_so_near_the_end() -> None:
    """1 - c = 1e-5 is the guard itself, which no recorded run comes near to."""
    ones = torch.ones(1, 1, 1, dtype=torch.float64)
    now = Step(0.0 * ones, ones, torch.tensor([1e-5]).double(), torch.zeros(1).double(), lambda k: ones)
    process = GaussianProcess.model_validate({"schedule": {"name": "rectified_flow", "lowest": 1e-9}})
    assert_close(Euler().step(process, now), 0.5 * ones)
    assert_close(Euler(guard=0.0).step(process, now), ones)


def test_times_are_even_from_one_to_zero() -> None:
    path = Euler(steps=5).path(PROCESSES["straight"].noise_schedule)
    assert [t for t, _ in path] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert path[-1][1] == 0.0
    assert all(before[1] == after[0] for before, after in pairwise(path))
