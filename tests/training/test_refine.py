"""A student of a few noises that is anchored to the teacher's samples and refined."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from dlkit.diffusion.codes import one_of
from dlkit.errors import UserError
from dlkit.generator import load_student
from dlkit.objectives._base import ORIGIN, Noised
from dlkit.recipe import Recipe
from dlkit.training import feasible
from dlkit.training.stage import StageRun

ANCHOR = {"name": "ode_regression", "pairs": 12, "steps": 2, "tokens": 1.0}
CHANGES: dict[str, Any] = {
    "objective": {"name": "refine", "steps": 2},
    "anchor": ANCHOR,
    "codes": 3,
    "t_init": 1.0,
    "stages": [{"steps": 4, "objective": ANCHOR}, {"steps": 4}],
    "time_sampler": {"name": "uniform", "t_min": 0.02, "t_max": 0.1},
    "run": {"checkpoint_every": 2},
}


def stage_of(teacher: Path, data: Path, out: Path, number: int = 0, **changes: Any) -> StageRun:
    return StageRun(tiny.distiller(teacher, data, out, **changes), number, None)


def test_no_critic_learns_in_it(teacher: Path, data: Path, tmp_path: Path) -> None:
    stage = stage_of(teacher, data, tmp_path / "run", 1, **CHANGES)
    values = stage.step(0)
    assert stage.networks.fake is stage.critic_optimizer is None
    assert {"generator_regression", "generator_tokens", "generator_anchor_regression"} <= values.keys()
    assert not any(name.startswith("critic") for name in values)


def test_an_adversary_beside_it_learns(teacher: Path, data: Path, tmp_path: Path) -> None:
    stage = stage_of(teacher, data, tmp_path / "run", 1, **CHANGES, adv=True)
    assert {"critic_adversarial", "generator_adversarial", "generator_regression"} <= stage.step(0).keys()


def all_but(mine: Any, step: Any, optimizer: Any, clip: Any) -> Tensor:
    """An engine's step that leaves one optimiser's gradients where they are."""
    return torch.zeros(()) if optimizer is mine else step(optimizer, clip)


@pytest.mark.parametrize("objective", ["dmd", "refine"])
def test_the_anchor_is_the_regression_with_its_weight(
    objective: str, teacher: Path, data: Path, tmp_path: Path
) -> None:
    """The student's gradient with an anchor is the one without plus c_anchor times the regression's."""
    changes = {"objective": objective, "t_init": 1.0, "generator": {"clip": None}}
    gradients = {}
    for name, anchor, weights in (
        ("without", None, {}),
        ("with", ANCHOR, {"c_anchor": 0.3}),
        ("alone", ANCHOR, {"c_anchor": 1.0, "a_sd": 0.0}),
    ):
        stage = stage_of(teacher, data, tmp_path / name, **changes, anchor=anchor, weights=weights)
        step, mine = stage.whole.engine.step, stage.generator_optimizer
        skipping = partial(all_but, mine, step)
        stage.whole.engine.step = skipping  # type: ignore[method-assign]
        stage.step(0)
        gradients[name] = [p.grad.clone() for p in stage.networks.student.backbone.parameters() if p.grad is not None]
    for one, two, both in zip(gradients["without"], gradients["alone"], gradients["with"], strict=True):
        assert_close(both, one + 0.3 * two)


def test_text_is_refined_with_the_noise_it_was_made_from(teacher: Path, data: Path, tmp_path: Path) -> None:
    stage = stage_of(teacher, data, tmp_path / "run", 1, **CHANGES)
    fake = stage.freshly_noised(5)
    assert fake.noise is not None
    assert_close(stage.studio.student(fake.cond, fake.noise(ORIGIN)), fake.x0)


def test_shared_samples_keep_their_noise(teacher: Path, data: Path, tmp_path: Path) -> None:
    plan = {"critic_steps_per_generator_step": 2, "share_samples": True}
    stage = stage_of(teacher, data, tmp_path / "run", 1, **CHANGES, adv=True, plan=plan)
    seen: list[tuple[Tensor, Tensor]] = []

    def look(fake: Noised, step: int) -> dict[str, Tensor]:
        assert fake.noise is not None
        seen.append((fake.x0, stage.studio.student(fake.cond, fake.noise(ORIGIN))))
        return {}

    stage.generator_update = look  # type: ignore[method-assign]
    stage.alternating_step(1)
    assert_close(*seen[0])


def test_the_student_knows_the_noises_it_was_taught(teacher: Path, data: Path, tmp_path: Path) -> None:
    """It writes as many texts as there are codes, and asked with them it writes what training saw."""
    student = load_student(tiny.run_distill(teacher, data, tmp_path / "run", seed=5, **CHANGES))
    assert student.architecture.sampler.spec() == {
        **{"name": "one_step", "steps": 1, "t_init": 1.0},
        **{"codes": 3, "codes_seed": 5},
    }
    stage = stage_of(teacher, data, tmp_path / "other", **CHANGES)
    taught = {tuple(row.tolist()) for row in stage.samples.z(torch.arange(12)).flatten(1)}
    codes = {tuple(row.tolist()) for row in one_of(torch.randn(60, 24, 8), 3, stage.studio.stream.seed).flatten(1)}
    assert taught <= codes
    assert len(codes) == 3
    (texts,) = student.generate(["where can i buy shoes in paris ?"], num_samples=40, seed=1)
    assert len(set(texts)) <= 3


def test_samples_of_a_source_begin_with_different_codes(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Seven samples of three codes take each twice or three times, whatever the batches; a seed chooses which."""
    student = load_student(tiny.run_distill(teacher, data, tmp_path / "run", **CHANGES))
    begun: dict[int, list[Tensor]] = {}
    for seed in range(4):
        seen = begun.setdefault(seed, [])
        look = lambda k, t, x_t, x0, seen=seen: seen.extend(x_t.flatten(1))  # noqa: E731
        student.generate(["why is the sky blue ?"] * 2, num_samples=7, seed=seed, batch_size=3, observe=look)
        for row in (seen[:7], seen[7:]):
            _, counts = torch.stack(row).unique(dim=0, return_counts=True)
            assert sorted(counts.tolist()) == [2, 2, 3]
    assert len({tuple(begun[seed][0].tolist()) for seed in range(4)}) > 1


def test_a_student_asked_otherwise_keeps_what_it_was_taught(teacher: Path, data: Path, tmp_path: Path) -> None:
    """By its sampler's name, with a setting of it, or for more steps than it learnt."""
    student = load_student(tiny.run_distill(teacher, data, tmp_path / "run", seed=5, **CHANGES))
    own = student.architecture.sampler
    assert student.choose_sampler("one_step", None) == student.choose_sampler({"name": "one_step"}, 1) == own
    assert student.choose_sampler({"name": "one_step", "t_init": 0.5}, None).spec() == {**own.spec(), "t_init": 0.5}
    several = student.choose_sampler(None, 2).spec()
    assert several == {"name": "renoise", "steps": 2, "t_init": 1.0, "codes": 3, "codes_seed": 5}


def test_times_that_the_teacher_never_saw_are_refused(teacher: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"time_sampler of stage 0: t_max=0\.01 is below 0\.02"):
        tiny.distiller(teacher, data, tmp_path / "run", time_sampler={"name": "uniform", "t_min": 0.001, "t_max": 0.01})


def test_an_interrupted_run_ends_the_same(teacher: Path, data: Path, tmp_path: Path) -> None:
    whole = tiny.run_distill(teacher, data, tmp_path / "whole", **CHANGES)

    class Stop(Exception):
        pass

    real, done = StageRun.step, 0

    def step(self: StageRun, number: int) -> Any:
        nonlocal done
        done += 1
        if done == 7:
            raise Stop
        return real(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageRun, "step", step)
        with pytest.raises(Stop):
            tiny.run_distill(teacher, data, tmp_path / "cut", **CHANGES)
    again = tiny.run_distill(teacher, data, tmp_path / "cut", resume=True, **CHANGES)
    assert tiny.weights(again) == tiny.weights(whole)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"codes": 4, "generator_steps": 2, "generator_input": "noised_data"}, "generator_steps=1"),
        ({"anchor": "dmd"}, "anchor: objective 'dmd' does not learn from the teacher's samples"),
        ({"codes": 0}, "codes"),
        (
            {"objective": "refine", "generator_steps": 2, "generator_input": "noised_data"},
            "objective 'refine' asks for the noise of a single step",
        ),
        ({"anchor": {"pears": 3}}, "pairs"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        Recipe(**settings)


def test_more_anchors_than_memory_are_refused(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feasible, "total_memory", lambda device: 2**10)
    with pytest.raises(UserError, match=r"anchor\.pairs: 12 teacher samples"):
        tiny.distiller(teacher, data, tmp_path / "run", objective="dmd", anchor=ANCHOR)
