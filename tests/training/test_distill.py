"""Distillation as a whole: stages, the best student, logs, refusals."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from dlkit.errors import UserError
from dlkit.generator import load_student, load_teacher
from dlkit.recipe import Recipe
from dlkit.samplers.one_step import OneStep
from dlkit.training import distill as module
from dlkit.training.checkpoint import module_state
from dlkit.training.distill import distill
from dlkit.training.ema import Ema
from dlkit.training.folder import read_log
from dlkit.training.stage import StageRun

TWO = [{"steps": 3}, {"steps": 2}]


def test_the_same_seed_gives_the_same_student_and_another_seed_another(
    teacher: Path, data: Path, tmp_path: Path
) -> None:
    first, again, other = (
        tiny.weights(tiny.run_distill(teacher, data, tmp_path / str(k), seed=seed, adv=True))
        for k, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


def test_what_a_run_leaves_behind(teacher: Path, data: Path, tmp_path: Path) -> None:
    made = tiny.recipe(stages=TWO, evaluation={"every": 2}, adv=True)
    result = distill(made, teacher, data, tmp_path / "run", reporter=tiny.QUIET)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"run.json", "recipe.yaml", "log.jsonl", "checkpoints", "student"}
    assert Recipe.from_yaml(tmp_path / "run" / "recipe.yaml") == made
    assert result.student == tmp_path / "run" / "student"
    student = load_student(result.student)
    assert student.architecture.sampler.spec() == OneStep(t_init=0.7455).spec()
    assert student.recipe.model == load_teacher(teacher).recipe.model
    assert len(student.generate(["where are books sold in paris ?"])) == 1


def test_the_log(teacher: Path, data: Path, tmp_path: Path) -> None:
    changes = {"stages": TWO, "evaluation": {"every": 2}, "run": {"log_every": 2}, "adv": True}
    tiny.run_distill(teacher, data, tmp_path / "run", **changes)
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert [(line["kind"], line["stage"], line["step"]) for line in lines] == [
        ("distill", 0, 2),
        ("valid", 0, 2),
        ("distill", 0, 3),
        ("valid", 0, 3),
        ("distill", 1, 2),
        ("valid", 1, 2),
    ]
    losses = {"critic_denoising", "critic_adversarial", "generator_sid", "generator_adversarial"}
    assert losses | {"critic_grad_norm", "generator_grad_norm", "seconds"} <= lines[0].keys()
    assert any(name.startswith("gap_t") for name in lines[0])
    assert {"bleu", "pad", "empty", "repetition", "copy", "unique"} <= lines[1].keys()
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def scripted(scores: list[float], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Let validation give these scores; the students it saw."""
    students: list[dict[str, torch.Tensor]] = []
    rest: Iterator[float] = iter(scores)

    def validate(model: Any, *args: Any) -> tuple[float, dict[str, float]]:
        students.append({name: tensor.clone() for name, tensor in module_state(model.denoiser.backbone).items()})
        return next(rest), {}

    monkeypatch.setattr(module, "validate", validate)
    return students


@pytest.mark.parametrize(
    ("metric", "scores", "best"),
    [
        ("bleu", [0.1, 0.4, 0.2, 0.4], 1),
        ("self_bleu", [0.9, 0.4, 0.2, 0.4], 2),
        ("bleu", [0.0, 0.0, 0.0, 0.0], 0),
        ("self_bleu", [0.5, 0.6, 0.7, 0.8], 0),
    ],
)
def test_the_best_student_is_kept(
    metric: str,
    scores: list[float],
    best: int,
    teacher: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first of the best, in the direction of the metric, over both stages."""
    students = scripted(scores, monkeypatch)
    made = tiny.recipe(stages=[{"steps": 2}] * 2, evaluation={"every": 1, "metric": metric, "num_samples": 2})
    result = distill(made, teacher, data, tmp_path / "run", reporter=tiny.QUIET)
    assert result.best == {"stage": best // 2, "step": best % 2 + 1, "score": scores[best]}
    assert tiny.same(module_state(load_student(result.student).denoiser.backbone), students[best])


def test_stages_are_counted_from_1_in_what_is_told(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted([0.1, 0.4, 0.2, 0.4], monkeypatch)
    made = tiny.recipe(stages=[{"steps": 2}] * 2, evaluation={"every": 1})
    result = distill(made, teacher, data, tmp_path / "run")
    told = capsys.readouterr().err
    assert "stage 1 of 2: " in told and "stage 2 of 2: " in told
    assert told.splitlines()[-1] == "best student: stage 1, step 2, 0.4000"
    assert result.best == {"stage": 0, "step": 2, "score": 0.4}


def test_the_second_stage_starts_from_the_best_student_and_the_teachers_score(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = scripted([0.1, 0.9, 0.3], monkeypatch)
    distiller = tiny.distiller(teacher, data, tmp_path / "run", stages=TWO, evaluation={"every": 1})
    distiller.run_stage(0, None)
    stage = StageRun(distiller, 1, None)
    phi = module_state(distiller.teacher.backbone)
    assert tiny.same(module_state(stage.networks.fake.backbone), phi)
    assert tiny.same(module_state(stage.networks.student.backbone), students[1])
    assert not tiny.same(students[1], phi)
    assert not stage.generator_optimizer.state_dict()["state"]
    assert stage.ema.ticks == 0


def test_the_first_stage_starts_from_the_teacher(teacher: Path, data: Path, tmp_path: Path) -> None:
    distiller = tiny.distiller(teacher, data, tmp_path / "run")
    networks = StageRun(distiller, 0, None).networks
    phi = module_state(distiller.teacher.backbone)
    assert tiny.same(module_state(networks.student.backbone), phi)
    assert tiny.same(module_state(networks.fake.backbone), phi)


def test_a_stage_has_its_own_settings(teacher: Path, data: Path, tmp_path: Path) -> None:
    stages = [{"steps": 1}, {"steps": 1, "lr_generator": 0.5, "lr_critic": 0.25, "weights": {"a_sd": 0.9}}]
    distiller = tiny.distiller(teacher, data, tmp_path / "run", stages=stages)
    first, second = (StageRun(distiller, number, None) for number in (0, 1))
    assert [o.param_groups[0]["lr"] for o in (first.generator_optimizer, first.critic_optimizer)] == [1e-3, 1e-3]
    assert [o.param_groups[0]["lr"] for o in (second.generator_optimizer, second.critic_optimizer)] == [0.5, 0.25]
    assert [weight for _, _, weight in second.weighted()] == [0.9]


def test_the_learning_rates_over_a_stage(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Each optimiser has its own warm-up and decay."""
    seen: list[tuple[float, float]] = []

    def watch(optimizer: torch.optim.Optimizer) -> None:
        if optimizer is stage.generator_optimizer:
            both = (stage.generator_optimizer, stage.critic_optimizer)
            seen.append(tuple(o.param_groups[0]["lr"] for o in both))  # type: ignore[arg-type]

    changes = {"generator": {"lr": 0.5, "warmup": 2}, "critic": {"lr": 0.25, "decay": "linear"}}
    stage = StageRun(tiny.distiller(teacher, data, tmp_path / "run", tiny.WatchedEngine(watch), **changes), 0, None)
    for step in range(4):
        stage.step(step)
    assert seen == [(0.25, 0.25), (0.5, 0.1875), (0.5, 0.125), (0.5, 0.0625)]


def test_lost_losses_stop_the_run_and_save_nothing(teacher: Path, data: Path, tmp_path: Path) -> None:
    changes = {"generator": {"lr": 1e30}, "run": {"log_every": 4, "checkpoint_every": 2}}
    with pytest.raises(UserError, match=r"step 2: .* is (nan|inf); lower the learning rate or set generator.clip"):
        tiny.run_distill(teacher, data, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_student_that_the_last_update_breaks_is_not_saved(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of an update are those before it, so they are fine."""
    tick = Ema.tick

    def breaking(ema: Ema, module: torch.nn.Module) -> None:
        if ema.ticks == 3:
            next(module.parameters()).data.view(-1)[0] = float("nan")
        tick(ema, module)

    monkeypatch.setattr(Ema, "tick", breaking)
    with pytest.raises(
        UserError, match="step 4: the largest averaged weight is nan; lower the learning rate or set gen"
    ):
        tiny.run_distill(teacher, data, tmp_path / "run")
    assert not (tmp_path / "run" / "student").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("precision", ["bf16"])
def test_lower_precision_runs_and_keeps_weights_in_fp32(
    precision: str, teacher: Path, data: Path, tmp_path: Path
) -> None:
    student = tiny.run_distill(teacher, data, tmp_path / "run", adv=True, run={"precision": precision})
    assert {tensor.dtype for tensor in load_student(student).denoiser.parameters()} == {torch.float32}


def test_bad_inputs_leave_no_folder_behind(teacher: Path, data: Path, tmp_path: Path) -> None:
    """So that the same command works once the input is mended."""
    broken = shutil.copytree(data, tmp_path / "data")
    (broken / "valid.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"has no file of the split valid"):
        tiny.run_distill(teacher, broken, tmp_path / "run")
    (broken / "valid.jsonl").write_text('{"src": "a"}\n')
    with pytest.raises(UserError, match=r"valid.jsonl:1: the key 'trg' is missing"):
        tiny.run_distill(teacher, broken, tmp_path / "run")
    with pytest.raises(UserError, match="metric 'self_bleu' needs two or more samples"):
        tiny.run_distill(teacher, data, tmp_path / "run", evaluation={"metric": "self_bleu"})
    with pytest.raises(UserError, match="does not exist; give the folder of a model"):
        tiny.run_distill(tmp_path / "nothing", data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_student_is_no_teacher(teacher: Path, data: Path, tmp_path: Path) -> None:
    student = tiny.run_distill(teacher, data, tmp_path / "run")
    with pytest.raises(UserError, match="holds a student, not a teacher"):
        tiny.run_distill(student, data, tmp_path / "second")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"steps": 51}}, "evaluation.steps: 51 is more than the 50 steps"),
        (
            {"stages": [{"steps": 1}, {"steps": 1, "objective": {"name": "ode_regression", "pairs": 2, "steps": 51}}]},
            "steps of the objective of stage 1: 51 is more than the 50 steps",
        ),
        ({"t_init": 0.01}, "t_init: 0.01 is below 0.02, the lowest time the teacher was trained at; raise it"),
        ({"adv": {"taps": [1]}}, "adv.taps: the teacher has no layer 1; choose from -1 to 0"),
        ({"adv": {"taps": [0, -2]}}, "adv.taps: the teacher has no layer -2; choose from -1 to 0"),
    ],
)
def test_what_the_teacher_does_not_have_is_told_before_any_work(
    changes: dict[str, Any], message: str, teacher: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        tiny.run_distill(teacher, data, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"generator": {"lr": float("inf")}},
        {"critic": {"betas": [1.0, 0.9]}},
        {"objective": {"name": "sid", "mu": float("nan")}},
    ],
)
def test_numbers_that_no_optimiser_can_use_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        tiny.recipe(**changes)


def test_the_critic_warms_up_at_its_full_rate(teacher: Path, data: Path, tmp_path: Path) -> None:
    seen: list[float] = []

    def watch(optimizer: torch.optim.Optimizer) -> None:
        if optimizer is stage.critic_optimizer:
            seen.append(optimizer.param_groups[0]["lr"])

    changes = {"critic": {"lr": 0.5, "warmup": 2}, "stages": [{"steps": 4, "critic_warmup": 2}]}
    stage = StageRun(tiny.distiller(teacher, data, tmp_path / "run", tiny.WatchedEngine(watch), **changes), 0, None)
    stage.step(0)
    stage.step(1)
    assert seen == [0.5, 0.5, 0.25, 0.5]


def test_the_last_update_of_the_warm_up_is_logged(teacher: Path, data: Path, tmp_path: Path) -> None:
    changes = {"stages": [{"steps": 2, "critic_warmup": 3}], "adv": True}
    tiny.run_distill(teacher, data, tmp_path / "run", **changes)
    first, *rest = read_log(tmp_path / "run" / "log.jsonl")
    assert (first["kind"], first["stage"], first["step"]) == ("warmup", 0, 1)
    assert {"critic_denoising", "critic_adversarial", "critic_grad_norm", "seconds"} <= first.keys()
    assert "warmup" not in {line["kind"] for line in rest}


def test_a_warm_up_that_is_lost_stops_the_run(teacher: Path, data: Path, tmp_path: Path) -> None:
    changes = {"stages": [{"steps": 2, "critic_warmup": 3}], "critic": {"lr": 1e30}, "run": {"log_every": 50}}
    with pytest.raises(UserError, match=r"step 1: critic_.* is (nan|inf); lower the learning rate or set"):
        tiny.run_distill(teacher, data, tmp_path / "run", **changes)
    assert [line["kind"] for line in read_log(tmp_path / "run" / "log.jsonl")] == []


def test_the_last_line_of_a_stage_has_the_gaps_too(teacher: Path, data: Path, tmp_path: Path) -> None:
    tiny.run_distill(teacher, data, tmp_path / "run", run={"log_every": 3})
    lines = [line for line in read_log(tmp_path / "run" / "log.jsonl") if line["kind"] == "distill"]
    assert [line["step"] for line in lines] == [3, 4]
    assert all(any(name.startswith("gap_t") for name in line) for line in lines)
