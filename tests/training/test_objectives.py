"""Every objective, head and adversarial loss through a real run, from a Recipe alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from dlkit import discriminators, objectives
from dlkit.errors import UserError
from dlkit.objectives._base import Noised
from dlkit.objectives._trajectory import Trajectory
from dlkit.recipe import Recipe
from dlkit.training.folder import read_log
from dlkit.training.stage import StageRun
from dlkit.training.turns import Turn

OF_THIS_TEACHER = [n for n in objectives.names() if getattr(objectives.get(n), "student_kind", "same") == "same"]
"""The others make a student of two times, which takes a teacher of FLM: test_trajectories.py."""
SMALL = {"ode_regression": {"pairs": 8, "steps": 2}, "reflow": {"pairs": 8, "steps": 2}}


def changes_for(name: str) -> dict[str, Any]:
    needs = objectives.get(name).needs
    return {"objective": {"name": name, **SMALL.get(name, {})}, "adv": "discriminator" in needs.roles}


def beside_nothing(name: str) -> bool:
    """Whether an adversary beside it is refused."""
    objective = objectives.get(name)
    return objective.needs.regression or issubclass(objective, Trajectory)


@pytest.mark.parametrize("name", OF_THIS_TEACHER)
def test_every_objective_distils(name: str, teacher: Path, data: Path, tmp_path: Path) -> None:
    """A few steps change the student; every term is logged and finite."""
    tiny.run_distill(teacher, data, tmp_path / "run", **changes_for(name))
    log = [line for line in read_log(tmp_path / "run" / "log.jsonl") if line["kind"] == "distill"]
    assert len(log) == 4
    assert any(key.startswith("generator_") and key != "generator_grad_norm" for key in log[0])
    assert all(line["generator_grad_norm"] > 0 for line in log)


@pytest.mark.slow
@pytest.mark.contract
@pytest.mark.parametrize(
    ("name", "adv"), [(n, a) for n in OF_THIS_TEACHER for a in (False, True) if not (a and beside_nothing(n))]
)
def test_every_objective_runs_50_steps(name: str, adv: bool, teacher: Path, data: Path, tmp_path: Path) -> None:
    changes = changes_for(name)
    tiny.run_distill(
        teacher, data, tmp_path / "run", **changes | {"adv": adv or changes["adv"], "stages": [{"steps": 50}]}
    )


@pytest.mark.parametrize("features", ["fake_score", "teacher"])
@pytest.mark.parametrize("head", discriminators.names())
def test_every_head_distils(head: str, features: str, teacher: Path, data: Path, tmp_path: Path) -> None:
    adv = {"head": head, "features": features, "taps": [0, -1], "condition": True, "r1": 1.0, "r2": 1.0}
    if head == "parameter_free" and features == "teacher":
        with pytest.raises(UserError, match="'parameter_free' has no parameters and features of the teacher never"):
            tiny.recipe(adv=adv)
        return
    tiny.run_distill(teacher, data, tmp_path / "run", adv=adv, objective={"name": "f_distill"})
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert {"critic_adversarial", "critic_r1", "critic_r2", "generator_adversarial", "generator_f_distill"} <= log[
        0
    ].keys()


@pytest.mark.parametrize("head", discriminators.names())
def test_every_head_distils_in_lower_precision(head: str, teacher: Path, data: Path, tmp_path: Path) -> None:
    changes = {"adv": {"head": head, "r1": 1.0}, "objective": {"name": "f_distill"}, "run": {"precision": "bf16"}}
    tiny.run_distill(teacher, data, tmp_path / "run", **changes)


def stage_of(teacher: Path, data: Path, out: Path, engine: Any = None, **changes: Any) -> StageRun:
    return StageRun(tiny.distiller(teacher, data, out, engine, **changes), 0, None)


@pytest.mark.parametrize("objective", ["dmd", "sid", "adversarial"])
def test_the_teachers_features_train_the_head_and_the_student_only(
    objective: str, teacher: Path, data: Path, tmp_path: Path
) -> None:
    """No gradient ever reaches the teacher's parameters; the student's adversarial gradient passes through them."""
    reached: list[tuple[str, bool, bool]] = []

    def watch(optimizer: torch.optim.Optimizer) -> None:
        networks = stage.networks
        assert networks.head is not None
        assert all(parameter.grad is None for parameter in networks.teacher.parameters())
        head = any(p.grad is not None for p in networks.head.parameters())
        student = any(p.grad is not None and bool(p.grad.any()) for p in networks.student.backbone.parameters())
        reached.append(("critic" if optimizer is stage.critic_optimizer else "generator", head, student))

    changes = {"adv": {"features": "teacher"}, "objective": objective, "weights": {"a_sd": 0.0}}
    stage = stage_of(teacher, data, tmp_path / "run", tiny.WatchedEngine(watch), **changes)
    fake = [parameter.clone() for parameter in stage.networks.fake.backbone.parameters()]
    stage.step(0)
    assert reached == [("critic", True, False), ("generator", False, True)]
    learned = any(not torch.equal(a, b) for a, b in zip(fake, stage.networks.fake.backbone.parameters(), strict=True))
    assert learned == (objective != "adversarial")


def test_an_adversary_alone_counts_once(teacher: Path, data: Path, tmp_path: Path) -> None:
    """It has adv's settings and weights, and neither matches scores nor denoises."""
    adv = {"head": "token", "loss": "hinge"}
    stage = stage_of(teacher, data, tmp_path / "run", objective="adversarial", adv=adv, weights={"b_adv_theta": 0.25})
    assert [(part.spec()["loss"], psi, theta) for part, psi, theta in stage.weighted()] == [("hinge", 0.5, 0.25)]  # type: ignore[attr-defined]
    assert type(stage.networks.head).__name__ == "TokenHead"
    values = stage.step(0)
    assert {name for name in values if "norm" not in name} == {"critic_adversarial", "generator_adversarial"}


def logits(stage: StageRun, noised: Noised) -> Tensor:
    return Turn(stage.networks, stage.whole.adversary, critic=True).discriminator(noised)


def test_what_the_head_reads(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Two layers side by side, of the role that the Recipe names, and with the source's mean."""
    model = {"backbone": {"layers": 2}}
    two = tiny.run_fit(data, tmp_path / "fit", model=tiny.merged(tiny.SETTINGS["model"], model))
    for features in ("teacher", "fake_score"):
        adv = {"features": features, "taps": [0, 1], "condition": True}
        stage = stage_of(two, data, tmp_path / features, adv=adv)
        with torch.no_grad():
            for parameter in stage.networks.fake.backbone.parameters():
                parameter.mul_(1.1)
        draw = stage.draw("critic", 0)
        noised = stage.studio.noised(stage.studio.condition(draw).anchor, draw, "x", 0)
        network = stage.networks.teacher if features == "teacher" else stage.networks.fake
        time = network.process.noise_schedule.network_time(noised.t)
        read = network.backbone(noised.x_t, time, (0, 1))[1]
        assert read.shape[-1] == 32
        assert stage.networks.head is not None
        assert_close(logits(stage, noised), stage.networks.head(read, noised.cond.mask))


def test_the_noise_of_a_penalty_belongs_to_the_sample(teacher: Path, data: Path, tmp_path: Path) -> None:
    """The same in any batch, another at each step and for each use; given positions stay as they are."""
    stage = stage_of(teacher, data, tmp_path / "run", adv={"r1": 1.0})
    draw = stage.draw("critic", 0)
    x0 = stage.studio.condition(draw).anchor
    moved = stage.studio.noised(x0, draw, "critic/fake", 0).perturbed("r1", 0.1)
    some = torch.tensor([2, 0])
    alone = stage.studio.noised(x0[some], draw.rows(some), "critic/fake", 0).perturbed("r1", 0.1)
    assert torch.equal(moved.x_t[some], alone.x_t)
    still = stage.studio.noised(x0, draw, "critic/fake", 0)
    added = (moved.x_t - still.x_t) / 0.1
    assert not added[~still.cond.mask].any()
    assert float(added[still.cond.mask].std()) == pytest.approx(1.0, abs=0.2)
    for other in (
        still.perturbed("r2", 0.1),
        stage.studio.noised(x0, draw, "critic/fake", 1).perturbed("r1", 0.1),
    ):
        assert not torch.allclose(other.x_t, moved.x_t)


def test_reflow_asks_on_the_way_from_noise_to_text(teacher: Path, data: Path, tmp_path: Path) -> None:
    """x_t = alpha x0(z) + sigma z with given positions held, at times of the stage's distribution."""
    changes = {
        "objective": {"name": "reflow", "pairs": 8, "steps": 2},
        "time_sampler": {"name": "uniform", "t_max": 0.5},
    }
    stage = stage_of(teacher, data, tmp_path / "run", **changes)
    samples = stage.samples
    assert samples is not None
    noised = samples.noised(6, 1)
    assert noised.target is not None
    rows = [int((samples.x0 == target).all((1, 2)).nonzero()[0]) for target in noised.target]
    process, cond = stage.studio.process, noised.cond
    assert_close(noised.x_t, process.q_sample(noised.target, noised.t, samples.z(torch.tensor(rows)), cond))
    assert_close(noised.x0, cond.apply(stage.networks.student.predict(noised.x_t, noised.t, cond).x0))
    assert 0 < float(noised.t.min()) < float(noised.t.max()) <= 0.5
    assert not torch.equal(samples.noised(6, 2).t, noised.t)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "f_distill"}, "objective 'f_distill' needs a discriminator; set adv=true"),
        (
            {"objective": "f_distill", "adv": {"loss": "hinge"}},
            "objective 'f_distill' needs a discriminator whose logit is a log-ratio; set adv.loss=non_saturating",
        ),
        (
            {"stages": [{"objective": {"name": "adversarial", "loss": "hinge"}}], "adv": True},
            "objective 'adversarial' is adv without anything beside it; give its settings to adv",
        ),
        ({"adv": {"name": "f_distill"}}, "adv: objective 'f_distill' has no discriminator; set adv=true"),
        ({"adv": {"taps": []}}, "taps: Tuple should have at least 1 item"),
    ],
)
def test_what_a_recipe_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Recipe(**changes)
    assert "\n" not in str(error.value)
