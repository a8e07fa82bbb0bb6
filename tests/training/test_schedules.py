"""Distillation under schedules that do not keep the variance, or that know positions."""

from pathlib import Path
from typing import Any

import pytest

from dlkit import schedules
from dlkit.generator import load_student
from dlkit.testing import _material as material
from dlkit.training.distill import distill

STAGES = [
    {"steps": 1, "objective": {"name": "ode_regression", "pairs": 8, "steps": 3}},
    {"steps": 1, "objective": {"name": "reflow", "pairs": 8, "steps": 3}},
    {"steps": 1, "objective": {"name": "sid"}},
    {"steps": 1, "objective": {"name": "dmd", "weight": "snr"}},
    {"steps": 1, "objective": {"name": "f_distill", "weight": "kl"}},
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["geometric", "karras", "per_position", "rectified_flow"])
def test_a_student_is_distilled_under_it(name: str, tmp_path: Path) -> None:
    model: dict[str, Any] = {"process": {"name": "gaussian", "schedule": {"name": name, **schedules.get(name).trial}}}
    teacher = material.fitted(model=model)
    recipe = material.recipe(stages=STAGES, adv=True, x0_noise="sigma_0")
    student = load_student(distill(recipe, teacher, material.corpus(), tmp_path, reporter=material.QUIET).student)
    for steps in (1, 4):  # with 4 the lowest of the evenly spaced times would be below karras' t_min
        texts = student.generate(list(material.SOURCES), steps=steps)
        assert texts == student.generate(list(material.SOURCES), steps=steps, batch_size=1)
