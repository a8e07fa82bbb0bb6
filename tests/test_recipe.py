"""The Recipe: what it takes, what it refuses, and how it is written down."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlkit import objectives, recipes
from dlkit.decoders.logits import Logits
from dlkit.decoders.nearest import Nearest
from dlkit.diffusion.time_samplers.uniform import UniformTime
from dlkit.errors import UserError
from dlkit.objectives._base import Needs
from dlkit.objectives.adversarial import Adversarial
from dlkit.objectives.ode_regression import OdeRegression
from dlkit.objectives.refine import Refine
from dlkit.objectives.sid import Sid
from dlkit.recipe import Model, Optimizer, Recipe, Stage, UpdatePlan, Weights
from dlkit.samplers.ddim import Ddim
from dlkit.schedules.sqrt import SqrtSchedule


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- what it takes


def test_parts_by_name() -> None:
    made = Recipe(objective="sid", adv=True, decoder="nearest")
    assert made.objective == Sid()
    assert made.adv == Adversarial()
    assert made.decoder == Nearest()


def test_parts_by_settings() -> None:
    made = Recipe(objective={"name": "sid", "mu": 1.0}, adv={"head": "mean_pool", "features": "fake_score"})
    assert made.objective == Sid(mu=1.0)
    assert made.adv == Adversarial(head="mean_pool", features="fake_score")


def test_parts_as_objects() -> None:
    objective, adversary = Sid(mu=0.7), Adversarial(taps=(0, -1))
    made = Recipe(objective=objective, adv=adversary, stages=[Stage(objective=objective)])
    assert made.objective is objective
    assert made.adv is adversary
    assert made.stages[0].objective is objective


@pytest.mark.parametrize("value", [None, False])
def test_no_adversary(value: Any) -> None:
    assert Recipe(adv=value).adv is None
    assert Recipe(adv=value).to_dict()["adv"] is None


@pytest.mark.parametrize("value", [True, {}, "adversarial", {"name": "adversarial"}])
def test_the_default_adversary(value: Any) -> None:
    assert Recipe(adv=value).adv == Adversarial()


def test_defaults_are_the_papers() -> None:
    made = Recipe()
    assert made.objective == Sid(mu=1.2)
    assert made.t_init == 0.7455
    assert made.generator == Optimizer(lr=1e-5, betas=(0.0, 0.999))
    assert made.weights == Weights(a_dsm=0.5, b_adv_psi=0.5, a_sd=0.5, b_adv_theta=0.5)
    assert made.plan == UpdatePlan()


def test_it_is_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Recipe().batch_size = 3  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Recipe().generator.lr = 1.0  # type: ignore[misc]


def test_replace() -> None:
    made = Recipe(adv=True, objective={"name": "sid", "mu": 0.5})
    assert made.replace(batch_size=3) == Recipe(adv=True, objective={"name": "sid", "mu": 0.5}, batch_size=3)
    with pytest.raises(UserError, match="batch_size: Input should be greater than or equal to 1") as error:
        made.replace(batch_size=0)
    one_line(error)
    with pytest.raises(UserError, match="Optimizer: unknown key 'lrr'; did you mean 'lr'"):
        Optimizer().replace(lrr=1.0)


def test_a_stage_is_filled_from_the_recipe() -> None:
    times, late = UniformTime(t_max=0.9), UniformTime(t_max=0.5)
    made = Recipe(
        objective={"name": "sid", "mu": 0.9},
        generator={"lr": 0.1},
        critic={"lr": 0.2},
        weights={"a_sd": 0.3},
        time_sampler={"name": "uniform", "t_max": 0.9},
        stages=[
            {"steps": 5},
            {"steps": 6, "objective": "sid", "lr_critic": 0.4, "weights": {"a_dsm": 0.6}, "time_sampler": late},
        ],
    )
    given = {"weights": Weights(a_sd=0.3), "time_sampler": times, "lr_generator": 0.1, "lr_critic": 0.2}
    assert made.stage(0) == Stage(steps=5, objective=Sid(mu=0.9), **given)
    changed = {"weights": Weights(a_dsm=0.6), "time_sampler": late, "lr_critic": 0.4}
    assert made.stage(1) == Stage(steps=6, objective=Sid(), **{**given, **changed})


@pytest.mark.parametrize(
    ("objective", "adv", "critic"),
    [
        ("sid", None, True),
        ("refine", None, False),
        ("refine", True, True),
        ("adversarial", True, True),
        ("ode_regression", None, False),
        ("reflow", True, False),  # the adversary is another stage's
    ],
)
def test_where_a_critic_learns(objective: str, adv: bool | None, critic: bool) -> None:
    made = Recipe(objective="sid", adv=adv, stages=[{"steps": 1}, {"steps": 1, "objective": objective}])
    assert [made.has_critic(number) for number in (0, 1)] == [True, critic]
    assert [made.is_regression(number) for number in (0, 1)] == [False, objective in ("ode_regression", "reflow")]


# --- what it refuses

OBJECTIVES = ", ".join(objectives.names())
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"objctive": "sid"}, "unknown key 'objctive'; did you mean 'objective'?"),
    ({"zzz": 1}, "unknown key 'zzz'; known: objective, adv, anchor, "),
    ({"objective": "sdi"}, "objectives: nothing is called 'sdi'; did you mean 'sid'"),
    (
        {"objective": {"mu": 1.0}},
        "objectives: the settings {'mu': 1.0} lack a 'name'; known: " + OBJECTIVES,
    ),
    (
        {"objective": {"name": 7}},
        "objectives: the settings {'name': 7} lack a 'name'; known: " + OBJECTIVES,
    ),
    ({"objective": {"name": "sid", "mo": 1.0}}, "objectives 'sid': unknown key 'mo'; did you mean 'mu'?"),
    ({"objective": {"name": "sid", "mu": "high"}}, "objectives 'sid': mu: Input should be a valid number"),
    (
        {"objective": 5},
        "objectives: expected a name or settings with a 'name', got 5; known: " + OBJECTIVES,
    ),
    ({"objective": "adversarial"}, "objective 'adversarial' needs a discriminator; set adv=true"),
    ({"stages": [{"objective": "adversarial"}]}, "objective 'adversarial' needs a discriminator; set adv=true"),
    ({"adv": "sid"}, "adv: objective 'sid' has no discriminator; set adv=true or adv.name=adversarial"),
    (
        {"adv": {"head": "mean_pol"}},
        "discriminators: nothing is called 'mean_pol'; did you mean 'mean_pool' or 'attention_pool'?",
    ),
    ({"codes": True}, "codes: Input should be a valid integer"),
    ({"codes": 2**25}, "codes: Input should be less than or equal to 16777216 (got 33554432)"),
    ({"batch_size": 0}, "batch_size: Input should be greater than or equal to 1 (got 0)"),
    ({"batch_size": "many"}, "batch_size: Input should be a valid integer"),
    ({"batch_size": 10**6}, "batch_size: Input should be less than or equal to 65536 (got 1000000)"),
    ({"fit": {"batch_size": 10**9}}, "fit.batch_size: Input should be less than or equal to 1048576 (got 1000000000)"),
    (
        {"objective": {"name": "ode_regression", "pairs": 10**9}},
        "objectives 'ode_regression': pairs: Input should be less than or equal to 16777216 (got 1000000000)",
    ),
    ({"generator": {"lr": -1}}, "generator.lr: Input should be greater than 0 (got -1)"),
    ({"generator": {"learning_rate": 1}}, "unknown key 'generator.learning_rate'; known: lr, betas, eps, weight_decay"),
    ({"generator": 3}, "generator: Input should be a valid dictionary or instance of Optimizer (got 3)"),
    ({"stages": []}, "stages: Tuple should have at least 1 item"),
    ({"stages": [{"stps": 3}]}, "unknown key 'stages.0.stps'; did you mean 'steps'?"),
    ({"stages": [{"weights": {"a_dms": 3}}]}, "unknown key 'stages.0.weights.a_dms'; did you mean 'a_dsm'?"),
    ({"t_init": 0.0}, "t_init: Input should be greater than 0 (got 0.0)"),
    ({"time_sampler": {"name": "uniform", "t_min": 0.9, "t_max": 0.1}}, "t_min=0.9 is above t_max=0.1"),
    (
        {"time_sampler": "loss_second_moment"},
        "time_sampler 'loss_second_moment' weights losses, which only a fit does; set fit.time_sampler",
    ),
    (
        {"stages": [{"time_sampler": "low_noise_twice"}]},
        "time_sampler 'low_noise_twice' weights losses, which only a fit does; set fit.time_sampler",
    ),
    ({"x0_noise": "some"}, "x0_noise: Input should be 'none' or 'sigma_0' (got 'some')"),
    ({"model": {"seq_len": 600}}, "model: seq_len=600 is more than backbone.max_positions=512; change one of them"),
    ({"model": {"backbone": {"name": "diffuseq", "heads": 7}}}, "hidden=768 is not a multiple of heads=7"),
    (
        {"objective": "refine", "stages": [{"critic_warmup": 3}]},
        "stages.0.critic_warmup=3: with objective 'refine' no critic learns in this stage; set stages.0.",
    ),
    (
        {"adv": True, "stages": [{}, {"objective": "reflow", "critic_warmup": 2}]},
        "stages.1.critic_warmup=2: with objective 'reflow' no critic learns in this stage; set stages.1.",
    ),
    (
        {"objective": "refine", "guidance": {"teacher": 1.5, "fake_score": 2.0, "critic": 2.0}},
        "guidance.fake_score=2, guidance.critic=2: no critic learns in any stage; set guidance={teacher: 1.5}",
    ),
    (
        {"objective": "ode_regression", "guidance": {"condition_dropout": 0.1}},
        "guidance.condition_dropout=0.1: no critic learns in any stage; set guidance={}",
    ),
    (
        {"objective": "psd", "critic": {"lr": 1e-3, "clip": 1.0}, "plan": "dmd2"},
        "critic.lr=0.001, critic.clip=1, plan.critic_steps_per_generator_step=5, plan.share_samples=true: no critic "
        "learns in any stage; set critic={}, plan={}",
    ),
    (
        {"objective": "consistency", "weights": {"a_sd": 1.0, "b_adv_theta": 0.1, "c_anchor": 0.2}},
        "weights.b_adv_theta=0.1, weights.c_anchor=0.2: no critic learns in any stage; set weights={a_sd: 1}",
    ),
    (
        {"objective": "refine", "anchor": True, "weights": {"a_dsm": 1.0, "c_anchor": 0.2}},
        "weights.a_dsm=1: no critic learns in any stage; set weights={c_anchor: 0.2}",
    ),
    (
        {"objective": "reflow", "stages": [{"lr_critic": 0.1, "weights": {"b_adv_psi": 2.0}}]},
        "stages.0.weights.b_adv_psi=2, stages.0.lr_critic=0.1: no critic learns in any stage; "
        "set stages.0.weights={}, stages.0.lr_critic=null",
    ),
    ({"objective": "psd", "t_init": 0.8}, "t_init=0.8: the student of objective 'psd' starts at t = 1; set t_init=1"),
    (
        {"objective": "consistency", "time_sampler": {"name": "uniform", "t_max": 0.9}},
        'time_sampler={"name": "uniform", "t_min": null, "t_max": 0.9}: '
        "objective 'consistency' has times of its own; set time_sampler=uniform",
    ),
    (
        {"objective": "residual_psd", "stages": [{"time_sampler": {"name": "uniform", "t_max": 0.9}}]},
        "objective 'residual_psd' has times of its own; set stages.0.time_sampler=uniform",
    ),
    (
        {"objective": "psd", "adv": True, "critic": {"lr": 1e-3}, "stages": [{"critic_warmup": 3}]},
        "adv: objective 'psd' learns from noised real text alone; set adv=null; and stages.0.critic_warmup=3: with "
        "objective 'psd' no critic learns in this stage; set stages.0.critic_warmup=0; and critic.lr=0.001: no critic "
        "learns in any stage; set critic={}",
    ),
    (
        {"objective": "ode_regression", "adv": True},
        "adv stands beside an objective that is no regression to the teacher's samples, but every stage is one; set ad",
    ),
    (
        {"anchor": True, "stages": [{"objective": "reflow"}, {"objective": "ode_regression"}]},
        "anchor stands beside an objective that is no regression to the teacher's samples, but every stage is one; set",
    ),
    (
        {"generator_input": "noised_data"},
        "generator_input=noised_data: a student of one step has no later ones; set generator_input=noise or more gener",
    ),
    ({"evaluation": {"metric": "blue"}}, "metrics: nothing is called 'blue'; did you mean 'bleu'?"),
]


@pytest.mark.parametrize(("data", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_wrong_settings_are_told_in_one_line(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Recipe(**data)
    assert message in one_line(error)
    with pytest.raises(UserError) as error:
        Recipe.from_dict(data, where="my.yaml")
    assert one_line(error).startswith("my.yaml: ")
    assert message in one_line(error)


def test_what_the_line_says_mends_it() -> None:
    """All of a Recipe for another objective, at once."""
    made, change = recipes.get("sid_flm"), "objective=psd"
    with pytest.raises(UserError) as error:
        made.with_settings([change, "plan=dmd2", "t_init=0.7"])
    resets = [reset for said in one_line(error).split("; set ")[1:] for reset in said.split("; and ")[0].split(", ")]
    assert resets == ["adv=null", "t_init=1", "stages.0.critic_warmup=0", "critic={}", "plan={}", "weights={a_sd: 1}"]
    mended = made.with_settings([change, "plan=dmd2", "t_init=0.7", *resets])
    assert (mended.critic, mended.plan, mended.adv) == (Optimizer(), UpdatePlan(), None)


@pytest.mark.parametrize(
    "data",
    [
        {"objective": "psd", "t_init": 1.0, "time_sampler": {"name": "uniform", "t_max": 0.9}},
        {"objective": "consistency", "t_init": 0.8, "weights": {"a_sd": 2.0}},
        {"objective": "refine", "anchor": True, "weights": {"c_anchor": 0.2}},
        {"critic": {"lr": 1e-3}, "stages": [{"objective": "consistency"}, {"objective": "dmd"}]},
    ],
)
def test_what_is_used_is_taken(data: dict[str, Any]) -> None:
    assert Recipe(**data) == Recipe.from_dict(Recipe(**data).to_dict())


def test_a_record_may_hold_what_nothing_uses(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("objective: psd\ncritic: {lr: 0.001}\n")
    assert Recipe.from_yaml(path, record=True).critic.lr == 0.001
    with pytest.raises(UserError, match="no critic learns in any stage"):
        Recipe.from_yaml(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"objective": SqrtSchedule()},
            "objectives: SqrtSchedule is not one of these; known: " + OBJECTIVES,
        ),
        ({"decoder": Ddim()}, "decoders: Ddim is not one of these; known: linear_head, logits, nearest"),
        ({"model": {"space": SqrtSchedule()}}, "spaces: SqrtSchedule is not one of these; known: embedding"),
        ({"model": {"family": Model().backbone}}, "teachers: DiffuseqSpec is not one of these; known: diffuseq"),
        ({"adv": Nearest()}, "objectives: Nearest is not one of these; known: " + OBJECTIVES),
    ],
)
def test_a_part_of_another_kind_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        Recipe(**data)


def test_a_subclass_is_not_taken_for_its_registered_base() -> None:
    """It would be written down under the name of the base, and read as the base."""

    class Mine(Sid):
        pass

    with pytest.raises(UserError, match="objectives: Mine is not one of these"):
        Recipe(objective=Mine())


@pytest.mark.parametrize("data", [None, 3, "sid", ["sid"]])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(UserError, match="x: expected keys and values, got "):
        Recipe.from_dict(data, where="x")


def test_an_objective_that_needs_a_head_needs_adv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sid, "needs", Needs(roles=frozenset({"teacher", "discriminator"})))
    with pytest.raises(UserError, match="objective 'sid' needs a discriminator; set adv=true"):
        Recipe(objective="sid")
    assert Recipe(objective="sid", adv=True).adv == Adversarial()


# --- YAML

RECIPES = st.builds(
    Recipe,
    objective=st.builds(Sid, mu=st.floats(-3, 3), weight=st.sampled_from(["l1", "snr", "none"])),
    adv=st.none() | st.builds(Adversarial, taps=st.lists(st.integers(-3, 3), min_size=1).map(tuple)),
    decoder=st.sampled_from(["linear_head", "nearest"]) | st.builds(Logits, top_p=st.floats(0.1, 1)),
    t_init=st.floats(1e-3, 1),
    batch_size=st.integers(1, 2**16),
    generator=st.builds(
        Optimizer,
        lr=st.floats(1e-12, 1e3),
        betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
        clip=st.none() | st.floats(1e-3, 1e3),
    ),
    stages=st.lists(
        st.builds(
            Stage,
            steps=st.integers(1, 10**9),
            objective=st.none() | st.builds(Sid, mu=st.floats(-3, 3)),
            weights=st.none() | st.builds(Weights, a_sd=st.floats(0, 9)),
            lr_critic=st.none() | st.floats(1e-12, 1),
        ),
        min_size=1,
        max_size=3,
    ),
    model=st.builds(Model, tokenizer=st.text(max_size=20), overlong=st.sampled_from(["truncate", "refuse"])),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(RECIPES)
def test_what_is_written_is_read(made: Recipe) -> None:
    assert Recipe.from_dict(made.to_dict()) == made
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(made.to_dict()))) == made


def test_the_file_holds_every_setting(tmp_path: Path) -> None:
    made = Recipe(adv=True, stages=[{"steps": 3}, {"steps": 4, "objective": {"name": "sid", "mu": 0.5}}])
    made.to_yaml(tmp_path / "a.yaml")
    assert yaml.safe_load((tmp_path / "a.yaml").read_text()) == made.to_dict()
    assert Recipe.from_yaml(tmp_path / "a.yaml") == made


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing yet\n")
    assert Recipe.from_yaml(tmp_path / "a.yaml") == Recipe()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    Recipe().to_yaml(path)
    before = path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*a\.yaml: No space left on device") as error:
        Recipe(batch_size=3).to_yaml(path)
    one_line(error)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.yaml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"objective: [", "a.yaml is not YAML: "),
        (b"\xff\xfe\x00", "a.yaml is not YAML: "),
        (b"- sid\n- 3\n", "a.yaml: expected keys and values, got list"),
        (b"objctive: sid\n", "a.yaml: unknown key 'objctive'; did you mean 'objective'?"),
        (b"objective: sdi\n", "a.yaml: objectives: nothing is called 'sdi'; did you mean 'sid'"),
        (b"3: sid\n", "a.yaml: 3: Keys should be strings"),
    ],
)
def test_a_file_that_is_wrong_is_told(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        Recipe.from_yaml(tmp_path / "a.yaml")
    assert message in one_line(error)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the recipe .*a\.yaml: No such file or directory"):
        Recipe.from_yaml(tmp_path / "a.yaml")
    with pytest.raises(UserError, match=r"cannot read the recipe .*: Is a directory"):
        Recipe.from_yaml(tmp_path)


# --- assignments


def test_assignments() -> None:
    made = Recipe(stages=[{"steps": 3}, {"steps": 4}]).with_settings(
        [
            "objective.mu=0.5",
            "stages.1.steps=9",
            "adv=true",
            "generator.lr=1e-3",
            "generator.clip=null",
            "critic.betas=[0.1, 0.2]",
            "run.device=cuda:1",
            "batch_size = 7",
        ]
    )
    assert made.objective == Sid(mu=0.5)
    assert [stage.steps for stage in made.stages] == [3, 9]
    assert made.adv == Adversarial()
    assert made.generator == Optimizer(lr=1e-3)
    assert made.critic.betas == (0.1, 0.2)
    assert made.run.device == "cuda:1"
    assert made.batch_size == 7


def test_a_part_set_by_name_loses_its_old_settings() -> None:
    made = Recipe(objective={"name": "sid", "mu": 0.5})
    assert made.with_settings(["objective=sid"]).objective == Sid()
    assert made.with_settings(["objective={name: sid, mu: 2}"]).objective == Sid(mu=2.0)
    assert made.with_settings(["decoder=nearest"]).decoder == Nearest()


def test_later_assignments_win() -> None:
    assert Recipe().with_settings(["batch_size=3", "batch_size=4"]).batch_size == 4


def test_an_assignment_may_go_below_a_part_that_was_just_named() -> None:
    made = Recipe().with_settings(["adv=true", "adv.taps=[2]", "objective=refine", "objective.steps=7"])
    assert made.adv == Adversarial(taps=(2,))
    assert made.objective == Refine(steps=7)
    made = Recipe().with_settings(["adv={head: mean_pool}", "adv.taps=[1]", "fit.time_sampler=uniform"])
    assert made.adv == Adversarial(taps=(1,))
    with pytest.raises(UserError, match=r"--set adv\.tpas: adv has no 'tpas'; did you mean 'taps'"):
        Recipe().with_settings(["adv=true", "adv.tpas=2"])


def test_what_assignments_make_together_counts() -> None:
    """Not what is there between two of them, where one goes below a part that was just named."""
    settings = ["generator_steps=2", "adv=true", "adv.taps=[1]", "generator_input=noised_data"]
    assert Recipe().with_settings(settings) == Recipe().with_settings([*reversed(settings[:2]), *settings[2:]])
    made = Recipe(adv=True).with_settings(["objective=ode_regression", "objective.pairs=7", "adv=false"])
    assert made == Recipe(objective=OdeRegression(pairs=7))


@pytest.mark.parametrize(
    ("name", "assignments", "key", "mended"),
    [
        ("dlm_one_qqp", ["stages=[{objective: ode_regression}]"], "adv stands beside", ["adv=false", "critic={}"]),
        ("diverse", ["objective=reflow"], "anchor stands beside", ["anchor=false", "weights={a_sd: 1}"]),
        ("demo", ["stages.0.critic_warmup=5", "objective=refine"], "stages.0.critic_warmup=5: ", ["adv=true"]),
        ("demo", ["generator_input=noised_data"], "generator_input=noised_data: ", ["generator_steps=2"]),
        (
            "demo",
            ["guidance={teacher: 2, critic: 2}", "objective=refine"],
            "guidance.critic=2, ",
            ["guidance={teacher: 2}", "critic={}"],
        ),
    ],
)
def test_assignments_that_leave_a_setting_without_use_name_it(
    name: str, assignments: list[str], key: str, mended: list[str]
) -> None:
    ready = recipes.get(name)
    with pytest.raises(UserError) as error:
        ready.with_settings(assignments)
    assert one_line(error).startswith("--set: ")
    assert key in one_line(error)
    ready.with_settings([*assignments, *mended])


def test_no_assignments_change_nothing() -> None:
    made = Recipe(adv=True)
    assert made.with_settings([]) == made


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("objective.mu", "--set objective.mu: expected PATH=VALUE, for example"),
        ("objctive=sid", "--set objctive: the recipe has no 'objctive'; did you mean 'objective'?"),
        ("objective.mo=1", "--set objective.mo: objective has no 'mo'; did you mean 'mu'?"),
        ("zzz.mu=1", "--set zzz.mu: the recipe has no 'zzz'; known: objective, adv"),
        ("stages.2.steps=1", "--set stages.2.steps: stages has items 0 to 0, not '2'"),
        ("stages.steps=1", "--set stages.steps: stages has items 0 to 0, not 'steps'"),
        ("batch_size.x=1", "--set batch_size.x: batch_size is 64 and has nothing below it; set batch_size itself"),
        ("adv.taps=1", "--set adv.taps: adv is None and has nothing below it; set adv itself"),
        ("=1", "--set : the recipe has no ''; known: objective"),
        ("batch_size=[", "--set batch_size=[: '[' is not a YAML value; quote it"),
        ("batch_size=many", "--set: batch_size: Input should be a valid integer"),
        ("objective=sdi", "--set: objectives: nothing is called 'sdi'; did you mean 'sid'"),
        ("objective.name=sdi", "--set: objectives: nothing is called 'sdi'; did you mean 'sid'"),
    ],
)
def test_a_wrong_assignment_is_told(assignment: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        Recipe().with_settings([assignment])
    assert one_line(error).startswith(message)


@pytest.mark.parametrize(("name", "steps", "shared"), [("dlm_one", 1, False), ("dmd2", 5, True), ("fastgen", 4, False)])
def test_an_update_plan_by_name(name: str, steps: int, shared: bool) -> None:
    plan = Recipe(plan=name).plan  # type: ignore[arg-type]
    assert (plan.critic_steps_per_generator_step, plan.share_samples) == (steps, shared)
    assert Recipe().with_settings([f"plan={name}"]).plan == plan
    assert Recipe.from_dict(Recipe(plan=name).to_dict()).plan == plan  # type: ignore[arg-type]


def test_an_unknown_update_plan_is_told() -> None:
    with pytest.raises(UserError, match="plan: there is no update plan 'dmd3'; did you mean 'dmd2'"):
        Recipe(plan="dmd3")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "assignments",
    [
        ["guidance.fake_score=2", "objective=sid", "objective.mu=1.2", "guidance.critic=2"],
        ["model.seq_len=1024", "model.backbone=diffuseq", "model.backbone.max_positions=1024"],
    ],
)
def test_settings_must_go_together_in_the_end_only(assignments: list[str]) -> None:
    """Whatever is written out on the way; without the last one they do not."""
    Recipe().with_settings(assignments)
    with pytest.raises(UserError):
        Recipe().with_settings(assignments[:1])
