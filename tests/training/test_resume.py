"""Runs that are killed and resumed end with the same bytes as runs that are not."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from dlkit.errors import UserError
from dlkit.training.folder import read_log

TWO_STAGES: dict[str, Any] = {
    "adv": True,
    "stages": [
        {"steps": 12, "critic_warmup": 1},
        {"steps": 12, "critic_warmup": 2, "objective": {"name": "sid", "mu": 0.5}},
    ],
    "run": {"checkpoint_every": 3},
}
FITTING: dict[str, Any] = {
    "fit": {"steps": 16},
    "model": {"backbone": {**tiny.SETTINGS["model"]["backbone"], "dropout": 0.1}},
    "run": {"checkpoint_every": 3},
}
ADAPTING: dict[str, Any] = {
    "fit": {"steps": 16, "time_sampler": {"name": "loss_second_moment", "history": 2}},
    "model": {"process": {"name": "gaussian", "schedule": {"name": "sqrt", "steps": 4}}},
    "evaluation": {"steps": 2},
    "run": {"checkpoint_every": 3},
}
Moment = tuple[int, int]  # stage and step

# Children come from a clean server process that has imported torch already: they start fast, and no thread of this
# process is forked.
spawn = multiprocessing.get_context("forkserver")
spawn.set_forkserver_preload(["torch._dynamo", "dlkit.training.distill", "dlkit.training.fit"])


class Child:
    """A run in a process of its own."""

    def __init__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.process = spawn.Process(target=target, args=args, kwargs=kwargs)
        self.process.start()

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> bool:
        """Whether it was still at work."""
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL


class Command:
    """The same through the command line."""

    def __init__(self, *args: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, "-m", "dlkit", *args], env=os.environ | PYTHONPATH, **quiet)

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> bool:
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL


PYTHONPATH = {"PYTHONPATH": str(Path(__file__).parents[2])}


def reached(log: Path) -> Moment:
    """How far a run has come."""
    lines = log.read_text().splitlines() if log.exists() else []
    seen = [json.loads(line) for line in lines if line.endswith("}")]
    return max(((line.get("stage", 0), line["step"]) for line in seen), default=(0, 0))


def kill_at(child: Child | Command, ready: Callable[[], bool], rng: random.Random) -> bool:
    """Kill a child a little after it is ready. Whether it was still at work."""
    while child.is_alive() and not ready():
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, 0.03))
    return child.kill()


def moments(rng: random.Random, stages: int, kills: int, last: int) -> list[Moment]:
    """``kills`` steps of each stage, in order."""
    return [(stage, step) for stage in range(stages) for step in sorted(rng.sample(range(1, last), kills))]


def chain(start: Callable[[], Child | Command], out: Path, when: list[Moment], rng: random.Random) -> int:
    """Start a run again and again and kill it at each of the moments. How many of them hit it at work."""
    log = out / "log.jsonl"
    return sum(kill_at(start(), lambda at=at: reached(log) >= at, rng) for at in when)


def without_time(log: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_log(log)]


@pytest.fixture(scope="module")
def straight(teacher: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a distillation that nobody disturbed."""
    return tiny.run_distill(teacher, data, tmp_path_factory.mktemp("straight") / "run", **TWO_STAGES).parent


def check_same(out: Path, straight: Path, model: str) -> None:
    assert tiny.weights(out / model) == tiny.weights(straight / model)
    assert without_time(out / "log.jsonl") == without_time(straight / "log.jsonl")
    assert not list(out.rglob("*.tmp"))
    assert len(list((out / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_a_distillation_killed_six_times_ends_the_same(
    seed: int, teacher: Path, data: Path, straight: Path, tmp_path: Path
) -> None:
    rng, out = random.Random(seed), tmp_path / "run"
    start = lambda: Child(tiny.run_distill, teacher, data, out, resume=True, **TWO_STAGES)  # noqa: E731
    assert chain(start, out, moments(rng, stages=2, kills=3, last=9), rng) >= 4
    tiny.run_distill(teacher, data, out, resume=True, **TWO_STAGES)
    check_same(out, straight, "student")


@pytest.mark.parametrize("changes", [FITTING, ADAPTING], ids=["dropout", "times_by_loss"])
def test_a_fit_killed_twice_ends_the_same(changes: dict[str, Any], data: Path, tmp_path: Path) -> None:
    """The random numbers of dropout must come again too, and so must times that depend on the losses before."""
    rng, out = random.Random(0), tmp_path / "run"
    start = lambda: Child(tiny.run_fit, data, out, resume=True, **changes)  # noqa: E731
    assert chain(start, out, moments(rng, stages=1, kills=2, last=13), rng) >= 1
    tiny.run_fit(data, out, resume=True, **changes)
    check_same(out, tiny.run_fit(data, tmp_path / "straight", **changes).parent, "teacher")


def test_a_regression_killed_twice_ends_the_same(teacher: Path, data: Path, tmp_path: Path) -> None:
    """The teacher's samples are not stored; a resumed run makes the same ones."""
    changes = {
        "stages": [{"steps": 12, "objective": {"name": "ode_regression", "pairs": 10, "steps": 2}}],
        "run": {"checkpoint_every": 3},
    }
    rng, out = random.Random(0), tmp_path / "run"
    start = lambda: Child(tiny.run_distill, teacher, data, out, resume=True, **changes)  # noqa: E731
    assert chain(start, out, moments(rng, stages=1, kills=2, last=9), rng) >= 1
    tiny.run_distill(teacher, data, out, resume=True, **changes)
    check_same(out, tiny.run_distill(teacher, data, tmp_path / "straight", **changes).parent, "student")


def test_a_kill_before_the_first_checkpoint(teacher: Path, data: Path, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    child = Child(stopping_distill, data, teacher, out, after=2)
    assert kill_at(child, (tmp_path / "stopped").exists, random.Random(0))
    assert not (out / "checkpoints").exists()
    assert reached(out / "log.jsonl") == (0, 2)
    tiny.run_distill(teacher, data, out, resume=True, **TWO_STAGES)
    check_same(out, straight, "student")


def stopping_distill(data: Path, teacher: Path, out: Path, after: int) -> None:
    """A distillation that waits to be killed once it has logged some steps."""
    from dlkit.training.folder import RunFolder

    log = RunFolder.log

    def wait(folder: RunFolder, **values: Any) -> None:
        log(folder, **values)
        if values["step"] == after:
            (out.parent / "stopped").touch()
            time.sleep(600)

    RunFolder.log = wait  # type: ignore[method-assign]
    tiny.run_distill(teacher, data, out, resume=True, **TWO_STAGES)


@pytest.mark.parametrize("checkpoint", [1, 2, 5, 8])
def test_a_kill_while_a_checkpoint_is_written(
    checkpoint: int, teacher: Path, data: Path, straight: Path, tmp_path: Path
) -> None:
    """The half-written one is left lying as a .tmp folder, and does no harm."""
    out = tmp_path / "run"
    child = Child(half_saving_distill, data, teacher, out, checkpoint)
    assert kill_at(child, (tmp_path / "half").exists, random.Random(0))
    (left,) = (out / "checkpoints").glob(".*.tmp")
    assert (left / "state.safetensors").exists()
    tiny.run_distill(teacher, data, out, resume=True, **TWO_STAGES)
    check_same(out, straight, "student")


def half_saving_distill(data: Path, teacher: Path, out: Path, number: int) -> None:
    """A distillation that waits to be killed when half of its ``number``-th checkpoint is written."""
    from dlkit.training import checkpoint

    save, seen = checkpoint.save_file, []

    def half(tensors: Any, path: Path) -> None:
        save(tensors, path)
        seen.append(path)
        if len(seen) == number:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            (out.parent / "half").touch()
            time.sleep(600)

    checkpoint.save_file = half
    tiny.run_distill(teacher, data, out, resume=True, **TWO_STAGES)


def test_resuming_a_finished_run_changes_nothing(teacher: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    student = tiny.run_distill(teacher, data, out)
    before, log = tiny.weights(student), (out / "log.jsonl").read_text()
    tiny.run_distill(teacher, data, out, resume=True)
    assert tiny.weights(student) == before
    assert (out / "log.jsonl").read_text() == log


def test_a_run_killed_before_it_wrote_anything_is_started(teacher: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".run.json.0123abcd.tmp").write_text("{")
    assert tiny.run_distill(teacher, data, out, resume=True).exists()


def test_a_damaged_checkpoint_is_told_and_can_be_deleted(teacher: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    student = tiny.run_distill(teacher, data, out)
    before = tiny.weights(student)
    (path,) = (out / "checkpoints").iterdir()
    file = path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"is damaged .*; delete it, and --resume starts from the beginning") as caught:
        tiny.run_distill(teacher, data, out, resume=True)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    file.unlink()
    (path / "state.json").unlink()
    path.rmdir()
    tiny.run_distill(teacher, data, out, resume=True)
    assert tiny.weights(student) == before


@pytest.mark.slow
def test_twenty_kills_of_the_distill_command(teacher: Path, data: Path, tmp_path: Path) -> None:
    changes = {"adv": True, "stages": [{"steps": 60}, {"steps": 60}], "run": {"checkpoint_every": 7}}
    rng, out = random.Random(2), tmp_path / "run"
    tiny.recipe(**changes).to_yaml(tmp_path / "recipe.yaml")
    args = [
        "distill",
        "--teacher",
        teacher,
        "--data",
        data,
        "--out",
        out,
        "--recipe",
        tmp_path / "recipe.yaml",
        "--resume",
    ]
    start = lambda: Command(*map(str, args))  # noqa: E731
    assert chain(start, out, moments(rng, stages=2, kills=10, last=56), rng) >= 16
    assert start().process.wait() == 0
    check_same(out, tiny.run_distill(teacher, data, tmp_path / "straight", **changes).parent, "student")


@pytest.mark.slow
def test_ten_kills_of_the_train_command(data: Path, tmp_path: Path) -> None:
    changes = {"fit": {"steps": 60}, "run": {"checkpoint_every": 7}}
    rng, out = random.Random(3), tmp_path / "run"
    tiny.recipe(**changes).to_yaml(tmp_path / "recipe.yaml")
    args = ["train", "--data", data, "--out", out, "--recipe", tmp_path / "recipe.yaml", "--resume"]
    start = lambda: Command(*map(str, args))  # noqa: E731
    assert chain(start, out, moments(rng, stages=1, kills=10, last=56), rng) >= 8
    assert start().process.wait() == 0
    check_same(out, tiny.run_fit(data, tmp_path / "straight", **changes).parent, "teacher")
