"""The update plan that a run prints before each stage."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from dlkit.recipe import PLANS, Recipe
from dlkit.training.distill import distill
from dlkit.training.plan import describe, shown
from dlkit.training.progress import Reporter


def told(number: int = 0, **settings: Any) -> dict[str, str]:
    """What each line says, by what it is about."""
    head, *lines = describe(Recipe(**settings), number)
    return {"head": head, **{line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines}}


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        ("dlm_one", "1 critic update on fresh samples, then the generator on fresh ones (dlm_one)"),
        ("dmd2", "5 critic updates on fresh samples, then the generator on those of the last (dmd2)"),
        ("fastgen", "4 critic updates on fresh samples, then the generator on fresh ones (fastgen)"),
    ],
)
def test_published_plans_are_named(name: str, turn: str) -> None:
    assert told(plan=name)["plan"] == turn


def test_every_published_plan_is_another() -> None:
    assert len({told(plan=name)["plan"] for name in PLANS}) == len(PLANS)
    own = {"critic_steps_per_generator_step": 2, "share_samples": True}
    assert told(plan=own)["plan"].endswith("those of the last")


def test_each_stage_has_its_own_lines() -> None:
    stages = [
        {"steps": 7, "critic_warmup": 3, "lr_critic": 0.25},
        {"steps": 2, "objective": {"name": "dmd", "weight": "snr"}},
    ]
    rates: dict[str, Any] = {"generator": {"lr": 0.5, "decay": "linear", "end": 0.1}, "critic": {"lr": 0.125}}
    first, second = (told(number, stages=stages, batch_size=8, **rates) for number in (0, 1))
    assert first["head"].startswith("stage 1 of 2: 7 generator updates of 8 samples with sid(mu=1.2, ")
    assert second["head"] == "stage 2 of 2: 2 generator updates of 8 samples with dmd(weight=snr, reduction=mean)"
    assert first["plan"].startswith("3 critic updates first; 1 critic update")
    assert second["plan"].startswith("1 critic update")
    assert first["rates"] == "generator 0.5 falling to 0.05, critic 0.25"
    assert second["rates"] == "generator 0.5 falling to 0.05, critic 0.125"
    assert first["adversary"] == "none"
    assert "guidance" not in first


def test_adversaries() -> None:
    assert told(adv={"head": "token"})["adversary"].startswith("adversarial(head=token, features=fake_score, taps=[-1]")
    assert told(adv=True, objective="adversarial")["head"].endswith("with adv alone")


def test_nothing_is_said_of_a_critic_where_none_learns() -> None:
    lines = told(stages=[{"steps": 2, "objective": {"name": "ode_regression", "pairs": 10, "steps": 3}}])
    assert lines["head"].endswith("with ode_regression(pairs=10, steps=3, rounding=false, tokens=0.0); no critic")
    assert lines.keys() == {"head", "student", "rates"}
    assert lines["rates"] == "generator 1e-05"


def test_students_of_several_steps_and_guidance() -> None:
    lines = told(generator_steps=4, generator_input="noised_data", t_init=0.8, guidance={"teacher": 2.0})
    assert lines["student"].startswith("4 steps at t = 0.8, 0.6, 0.4, 0.2, each sample at one of them")
    assert lines["student"].endswith("from noised real text at the others")
    assert lines["guidance"] == "teacher 2, fake score 1; the critic learns with 1"
    assert told()["student"] == "1 step, from noise at t = 0.7455"
    some = told(guidance={"teacher": 1.5, "fake_score": 1.5, "condition_dropout": 0.1})["guidance"]
    assert some == "teacher 1.5, fake score 1.5; the critic learns with 1, without source 10%"


def test_settings_in_short() -> None:
    spec = {"name": "a", "b": None, "c": [1, {"name": "d"}], "e": {"name": "f", "g": False}}
    assert shown(spec) == "a(c=[1, d], e=f(g=false))"


def test_a_run_says_it(teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Reporter, "say", lambda reporter, text: said.append(text))
    made = tiny.recipe(stages=[{"steps": 1}, {"steps": 1}], plan="dmd2")
    distill(made, teacher, data, tmp_path / "run", reporter=tiny.QUIET)
    plan = [*describe(made, 0), *describe(made, 1)]
    assert [line for line in said if line in plan] == plan


def test_anchor_and_codes() -> None:
    lines = told(objective="refine", anchor=True, codes=64)
    assert lines["head"].endswith("; no critic")
    assert lines["anchor"].startswith("ode_regression(pairs=2048")
    assert lines["student"].startswith("1 step, from one of 64 noises at t = ")
    assert "noised at" in lines
    assert "plan" in told(objective="refine", anchor=True, adv=True)


@pytest.mark.parametrize("objective", ["refine", "ode_regression"])
def test_guidance_of_the_teacher_is_told_where_no_critic_learns(objective: str) -> None:
    assert told(objective=objective, guidance={"teacher": 3.0})["guidance"] == "teacher 3"
    assert "guidance" not in told(objective=objective)
