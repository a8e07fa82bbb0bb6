"""Regression to the teacher's samples: what they are, and that the student learns them."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from dlkit.diffusion.condition import Condition
from dlkit.errors import UserError
from dlkit.randomness import Stream
from dlkit.samplers.ddim import Ddim
from dlkit.training import feasible, teacher_samples
from dlkit.training.distill import distill
from dlkit.training.progress import Reporter
from dlkit.training.stage import StageRun
from dlkit.training.teacher_samples import TeacherSamples
from live_memory import LiveMemory

STAGE = {"steps": 200, "objective": {"name": "ode_regression", "pairs": 10, "steps": 3}}


@pytest.fixture
def stage(teacher: Path, data: Path, tmp_path: Path) -> StageRun:
    changes = {
        "stages": [STAGE, {"steps": 1}],
        "adv": True,
        "t_init": 1.0,
        "generator": {"lr": 1e-2, "decay": "linear"},
    }
    return StageRun(tiny.distiller(teacher, data, tmp_path / "run", **changes), 0, None)


def test_each_sample_is_where_ddim_takes_its_noise(stage: StageRun) -> None:
    """Also in another order and in a batch of another size."""
    made, teacher = stage.samples, stage.networks.teacher
    noised = made.noised(7, 1)
    assert noised.target is not None
    rows = [int((made.x0 == target).all((1, 2)).nonzero()[0]) for target in noised.target]
    z = made.z(torch.tensor(rows))
    again = Ddim(steps=3).sample(teacher, noised.cond, lambda _: z)
    assert_close(noised.target, again)
    assert_close(noised.x0, stage.studio.student(noised.cond, z))
    assert not torch.equal(*made.z(torch.arange(2)))


@pytest.mark.parametrize("name", ["ode_regression", "reflow"])
def test_rounded_samples_are_rows_of_the_table(name: str, teacher: Path, data: Path, tmp_path: Path) -> None:
    """As those of the sampler that rounds; without it they are none."""
    for rounding in (True, False):
        stages = [{"steps": 1, "objective": {"name": name, "pairs": 6, "steps": 3, "rounding": rounding}}]
        out = tmp_path / str(rounding)
        made = StageRun(tiny.distiller(teacher, data, out, stages=stages, t_init=1.0), 0, None).samples
        table = made.studio.networks.teacher.space.table
        assert bool((torch.cdist(made.x0, table[None]).amin(-1) < 1e-2).all()) is rounding


def test_one_ddim_step_is_what_the_student_is_at_its_start(teacher: Path, data: Path, tmp_path: Path) -> None:
    """At t_init = 1 the student begins as the teacher asked once, so there is nothing to learn from one step."""
    stages = [{"steps": 1, "objective": {"name": "ode_regression", "pairs": 6, "steps": 1}}]
    stage = StageRun(tiny.distiller(teacher, data, tmp_path / "run", stages=stages, t_init=1.0), 0, None)
    assert float(stage.step(0)["generator_regression"]) < 1e-10


def test_chunks_change_nothing(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_samples, "CHUNK", 3)
    again = TeacherSamples(stage.settings.objective, stage.studio, stage.whole.corpus, torch.device("cpu"))  # type: ignore[arg-type]
    assert_close(again.x0, stage.samples.x0)
    assert torch.equal(again.z(torch.arange(10)), stage.samples.z(torch.arange(10)))


def test_the_student_learns_them_and_nobody_else_learns(stage: StageRun) -> None:
    losses = [float(stage.step(step)["generator_regression"]) for step in range(STAGE["steps"])]  # type: ignore[arg-type]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert stage.networks.fake is stage.networks.head is stage.critic_optimizer is None
    assert stage.tensors().keys() == {"student", "generator_optimizer", "ema"}


def test_given_positions_stay_the_true_ones(stage: StageRun) -> None:
    made = stage.samples
    noised, cond = made.noised(4, 0), None
    assert noised.target is not None
    keep: Tensor = noised.cond.mask
    cond = Condition(noised.cond.anchor, keep)
    for state in (noised.x0, noised.target):
        assert torch.equal(state[~keep], cond.anchor[~keep])


def test_noise_is_drawn_in_pieces(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes several times the memory of what is drawn."""
    drawn: list[int] = []
    normal = Stream.normal

    def spy(stream: Stream, index: Tensor, *shape: int) -> Tensor:
        drawn.append(len(index))
        return normal(stream, index, *shape)

    monkeypatch.setattr(Stream, "normal", spy)
    monkeypatch.setattr(teacher_samples, "CHUNK", 4)
    _ = stage.samples
    assert drawn == [4, 4, 2]


def test_what_is_held_is_counted(stage: StageRun) -> None:
    made = stage.samples
    batch = made.draw.batch
    held = (made.x0, batch.ids, batch.mask, batch.index, made.draw.index)
    assert sum(tensor.nbytes for tensor in held) == TeacherSamples.bytes(10, 24, 8)


def test_making_them_takes_little_more_than_they_do(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces that are put together at the end would be alive beside the whole."""
    monkeypatch.setattr(teacher_samples, "CHUNK", 50)
    stages = [{"steps": 1, "objective": {"name": "ode_regression", "pairs": 4000, "steps": 1}}]
    stage = StageRun(tiny.distiller(teacher, data, tmp_path / "run", stages=stages), 0, None)
    with LiveMemory() as memory:
        _ = stage.samples
    assert memory.peak < 1.3 * TeacherSamples.bytes(4000, 24, 8)


def test_a_run_holds_those_of_one_stage_at_a_time(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether of the objective or of the anchor, and freed without the help of the garbage collector."""
    made: list[weakref.ref[TeacherSamples]] = []
    init = TeacherSamples.__init__

    def spy(samples: TeacherSamples, *args: Any) -> None:
        assert [earlier for earlier in made if earlier() is not None] == []
        init(samples, *args)
        made.append(weakref.ref(samples))

    monkeypatch.setattr(TeacherSamples, "__init__", spy)
    stages = [{**STAGE, "steps": 2}, {"steps": 1}, {"steps": 1, "objective": "dmd"}]
    gc.disable()
    try:
        tiny.run_distill(teacher, data, tmp_path / "run", stages=stages, anchor=STAGE["objective"])
    finally:
        gc.enable()
    assert len(made) == 3


def test_it_is_told_how_many_are_made(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_samples, "CHUNK", 4)
    told: list[int] = []
    objective, corpus = stage.settings.objective, stage.whole.corpus
    TeacherSamples(objective, stage.studio, corpus, torch.device("cpu"), told.append)  # type: ignore[arg-type]
    assert told == [4, 8, 10]


@pytest.mark.parametrize("changes", [{"stages": [{**STAGE, "steps": 2}]}, {"anchor": STAGE["objective"]}])
def test_a_run_tells_it_before_the_first_update(
    changes: dict[str, Any], teacher: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loop of its own, so that the time it takes is not counted as time of updates."""
    distill(tiny.recipe(**changes), teacher, data, tmp_path / "run", reporter=Reporter(every=0.0))
    shown = capsys.readouterr().err
    samples, updates = shown.index("teacher samples 10/10"), shown.index("stage 1 1/")
    assert samples < updates
    assert shown.count("teacher samples") == 1


def test_a_stage_that_is_done_makes_no_samples(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"stages": [{**STAGE, "steps": 4}]}
    student = tiny.run_distill(teacher, data, tmp_path / "run", **changes)
    before = tiny.weights(student)

    def never(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(TeacherSamples, "__init__", never)
    assert tiny.weights(tiny.run_distill(teacher, data, tmp_path / "run", resume=True, **changes)) == before


def test_more_pairs_than_sources_come_with_other_noise(teacher: Path, data: Path, tmp_path: Path) -> None:
    stages = [{"steps": 1, "objective": {"name": "ode_regression", "pairs": 50, "steps": 1}}]
    made = StageRun(tiny.distiller(teacher, data, tmp_path / "run", stages=stages), 0, None).samples
    rows = made.draw.batch.index.tolist()
    assert sorted(rows[:40]) == list(range(40))  # all the corpus has
    again = rows.index(rows[45])
    assert again < 40
    assert not torch.equal(*made.z(torch.tensor([again, 45])))


def test_more_samples_than_memory_are_refused(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feasible, "total_memory", lambda device: 2**19)
    stages = [{"steps": 1}, {"steps": 1, "objective": {"name": "ode_regression", "pairs": 2**20}}]
    assert TeacherSamples.bytes(2**20, 24, 8) == 2**20 * 1000
    with pytest.raises(
        UserError, match=r"pairs of the objective of stage 1: 1048576 teacher samples take 1\.0 GiB, and"
    ):
        tiny.run_distill(teacher, data, tmp_path / "run", stages=stages)
    assert not (tmp_path / "run").exists()


def test_sets_that_fit_one_at_a_time_are_enough(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feasible, "total_memory", lambda device: TeacherSamples.bytes(10, 24, 8))
    changes = {"stages": [STAGE, {"steps": 1}], "anchor": STAGE["objective"]}
    tiny.distiller(teacher, data, tmp_path / "run", **changes)
    monkeypatch.setattr(feasible, "total_memory", lambda device: TeacherSamples.bytes(10, 24, 8) - 1)
    with pytest.raises(UserError, match="10 teacher samples take"):
        tiny.distiller(teacher, data, tmp_path / "again", **changes)
