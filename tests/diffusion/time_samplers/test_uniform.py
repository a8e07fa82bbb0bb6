"""Uniform times."""

import pytest
import torch

from dlkit.diffusion import time_samplers
from dlkit.diffusion.time_samplers.uniform import UniformTime
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.schedules.sqrt import SqrtSchedule

U = (torch.arange(20_000).double() + 0.5) / 20_000


def indices(sampler: UniformTime) -> list[int]:
    """Original index of each drawn time."""
    return ((sampler.sample(U, SqrtSchedule()) * 2000).round().long() - 1).tolist()


def test_all_times_by_default() -> None:
    found = indices(UniformTime())
    assert found == [k // 10 for k in range(20_000)]


def test_the_papers_range() -> None:
    found = torch.tensor(indices(UniformTime(t_min=0.0005, t_max=0.9885)))
    counts = torch.bincount(found)
    assert (found.min(), found.max()) == (0, 1976)
    assert counts.max() - counts.min() <= 1


def test_a_lower_end_below_the_schedules_is_raised_to_it() -> None:
    assert min(indices(UniformTime(t_min=1e-6))) == 0


@pytest.mark.parametrize("t_max", [0.0, 1.5])
def test_times_outside_the_unit_interval(t_max: float) -> None:
    with pytest.raises(UserError, match="t_max"):
        from_spec(time_samplers.registry, {"name": "uniform", "t_max": t_max})


def test_an_empty_range() -> None:
    with pytest.raises(UserError, match=r"t_min=0.9 is above t_max=0.5"):
        from_spec(time_samplers.registry, {"name": "uniform", "t_min": 0.9, "t_max": 0.5})
    assert UniformTime(t_min=0.5, t_max=0.5).sample(U[:3], SqrtSchedule()).tolist() == [0.5] * 3
