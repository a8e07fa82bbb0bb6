"""Regression to the teacher's samples: what they are, and that the student learns them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from dlkit.diffusion.condition import Condition
from dlkit.samplers.ddim import Ddim
from dlkit.training import teacher_samples
from dlkit.training.distill import StageRun
from dlkit.training.teacher_samples import TeacherSamples

STAGE = {"steps": 200, "objective": {"name": "ode_regression", "pairs": 10, "steps": 3}}


@pytest.fixture
def stage(teacher: Path, data: Path, tmp_path: Path) -> StageRun:
    changes = {"stages": [STAGE], "adv": True, "t_init": 1.0, "generator": {"lr": 1e-2, "decay": "linear"}}
    return StageRun(tiny.distiller(teacher, data, tmp_path / "run", **changes), 0, None)


def samples(stage: StageRun) -> TeacherSamples:
    assert stage.samples is not None
    return stage.samples


def test_each_sample_is_where_ddim_takes_its_noise(stage: StageRun) -> None:
    """Also in another order and in a batch of another size."""
    made, teacher = samples(stage), stage.networks.teacher
    noised = made.noised(7, 1)
    assert noised.target is not None
    rows = [int((made.x0 == target).all((1, 2)).nonzero()[0]) for target in noised.target]
    z = made.z[rows]
    again = Ddim(steps=3).sample(teacher, noised.cond, lambda _: z)
    assert_close(noised.target, again)
    assert_close(noised.x0, stage.studio.student(noised.cond, z))
    assert not torch.equal(made.z[0], made.z[1])


def test_one_ddim_step_is_what_the_student_is_at_its_start(teacher: Path, data: Path, tmp_path: Path) -> None:
    """At t_init = 1 the student begins as the teacher asked once, so there is nothing to learn from one step."""
    stages = [{"steps": 1, "objective": {"name": "ode_regression", "pairs": 6, "steps": 1}}]
    stage = StageRun(tiny.distiller(teacher, data, tmp_path / "run", stages=stages, t_init=1.0), 0, None)
    assert float(stage.step(0)["generator_regression"]) < 1e-10


def test_chunks_change_nothing(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_samples, "CHUNK", 3)
    again = TeacherSamples(stage.settings.objective, stage.studio, stage.whole.corpus, torch.device("cpu"))  # type: ignore[arg-type]
    assert_close(again.x0, samples(stage).x0)


def test_the_student_learns_them_and_nobody_else_learns(stage: StageRun) -> None:
    before = {name: tensor.clone() for name, tensor in stage.networks.critic.state_dict().items()}
    losses = [float(stage.step(step)["generator_regression"]) for step in range(STAGE["steps"])]  # type: ignore[arg-type]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert tiny.same(stage.networks.critic.state_dict(), before)
    assert (
        "200 generator updates with {'name': 'ode_regression', 'pairs': 10, 'steps': 3} and no critic"
        in stage.describe()
    )


def test_given_positions_stay_the_true_ones(stage: StageRun) -> None:
    made: TeacherSamples = samples(stage)
    noised, cond = made.noised(4, 0), None
    assert noised.target is not None
    keep: Tensor = noised.cond.mask
    cond = Condition(noised.cond.anchor, keep)
    for state in (noised.x0, noised.target):
        assert torch.equal(state[~keep], cond.anchor[~keep])
