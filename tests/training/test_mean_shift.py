"""DiffuSeq-v2 from fitting to a student."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from dlkit.generator import TextModel, load_student, load_teacher

MODEL = {"process": {"name": "mean_shift", "schedule": {"name": "sqrt", "steps": 50}, "absorb_rate": 0.5}}
SOURCES = ["where can i buy shoes in paris ?", "how do i learn python ?"]


def first_states(model: TextModel, **options: Any) -> Tensor:
    """What the first network call is given."""
    seen: list[Tensor] = []
    model.generate_tokens(SOURCES, observe=lambda k, t, x_t, x0: seen.append(x_t), **options)
    return seen[0]


@pytest.fixture(scope="module")
def shifted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.run_fit(data, tmp_path_factory.mktemp("shifted") / "fit", model=MODEL)


def test_the_mean_is_fitted_and_saved(shifted: Path) -> None:
    teacher = load_teacher(shifted)
    mean = teacher.denoiser.space.mean_embed
    fresh = teacher.architecture.build(0).space.mean_embed
    assert mean is not None
    assert fresh is not None
    assert not torch.equal(mean, fresh)
    twin = teacher.architecture.build(0)
    twin.load_state_dict(teacher.denoiser.state_dict())
    assert tiny.same(twin.state_dict(), teacher.denoiser.state_dict())


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "ddim_legacy", "dpm_solver_pp_2m"])
def test_samplers_start_around_the_mean(shifted: Path, sampler: str) -> None:
    teacher = load_teacher(shifted)
    mean = teacher.denoiser.space.mean_embed
    assert mean is not None
    with torch.no_grad():
        mean.fill_(100.0)
    start = first_states(teacher, sampler=sampler, steps=5, num_samples=3)
    generated = start[..., 0] > 50  # the source is anchored at its embeddings, the rest starts at m + z
    assert 0 < float(generated.float().mean()) < 1
    assert float(start[generated].mean()) == pytest.approx(100.0, abs=0.2)


def test_absorption_is_a_function_of_the_sample(shifted: Path) -> None:
    teacher = load_teacher(shifted)
    options = {"sampler": "ancestral", "steps": 20, "num_samples": 2}
    both = teacher.generate_tokens(SOURCES, **options)
    assert teacher.generate_tokens(SOURCES[1:], **options) == both[1:]


def test_a_student_starts_around_the_mean(shifted: Path, data: Path, tmp_path: Path) -> None:
    stages = [{"steps": 2, "objective": {"name": "ode_regression", "pairs": 8, "steps": 2}}, {"steps": 2}]
    folder = tiny.run_distill(shifted, data, tmp_path / "run", stages=stages, batch_size=4)
    student, teacher = load_student(folder), load_teacher(shifted)
    ours, theirs = (model.denoiser.state_dict()["space.mean_embed"] for model in (student, teacher))
    assert torch.equal(ours, theirs)
    with torch.no_grad():
        student.denoiser.space.mean_embed.fill_(100.0)
    for steps in (1, 3):
        starts = first_states(student, steps=steps)
        assert float(starts.amax((1, 2)).min()) > 90
