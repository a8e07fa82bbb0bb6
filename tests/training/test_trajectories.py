"""Students that learn the teacher's trajectories: what they begin as, what teaches them, what they can do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from dlkit.data.tokenizer import Tokenizer
from dlkit.errors import UserError
from dlkit.generator import OneStepGenerator, load_student, load_teacher
from dlkit.objectives._trajectory import Trip
from dlkit.recipe import Recipe
from dlkit.samplers.flow_map import FlowMapSampler
from dlkit.training import students
from dlkit.training.plan import describe
from dlkit.training.stage import StageRun
from dlkit.training.turns import Turn

FLM: dict[str, Any] = {
    "model": {
        **{"family": "flm", "layout": "pairs", "space": "one_hot", "prediction": "logits"},
        "process": {"name": "gaussian", "schedule": "token_accuracy"},
        "backbone": {"name": "flm", "layers": 1, "hidden": 16, "heads": 2, "cond": 8, "dropout": 0.0},
    },
    "fit": {"steps": 20, "optimizer": {"lr": 1e-2}},
    "decoder": "nearest",
    "t_init": 1.0,
}
SOURCE = ["is it wet in rome in may ?"]


@pytest.fixture(scope="module")
def flow(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny FLM teacher."""
    return tiny.run_fit(data, tmp_path_factory.mktemp("flow") / "fit", **FLM)


@pytest.fixture(scope="module")
def residual(flow: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its first-stage student."""
    return distilled(flow, data, tmp_path_factory.mktemp("flow") / "residual", objective="residual_psd")


def distilled(teacher: Path, data: Path, out: Path, **changes: Any) -> Path:
    return tiny.run_distill(teacher, data, out, **{**FLM, **changes})


def stage_of(teacher: Path, data: Path, out: Path, **changes: Any) -> StageRun:
    return StageRun(tiny.distiller(teacher, data, out, **{**FLM, **changes}), 0, None)


def at(value: float, count: int) -> Tensor:
    return torch.full((count,), value).double()


@pytest.mark.parametrize("name", ["psd", "residual_psd"])
def test_a_student_begins_as_the_teacher_whatever_its_end(name: str, flow: Path, data: Path, tmp_path: Path) -> None:
    stage = stage_of(flow, data, tmp_path / "run", objective=name)
    teacher, student = stage.networks.teacher, stage.networks.student
    draw = stage.draw("generator", 0)
    cond, x = stage.studio.condition(draw), stage.studio.noise(draw, "x", 0)
    s = at(0.7, len(x))
    for end in (0.7, 0.2, 0.0):
        own = student.predict(x, s, cond, end=at(end, len(x))).x0
        assert_close(own, teacher.predict(x, s, cond).x0)
    assert {p.data_ptr() for p in student.backbone.parameters()}.isdisjoint(
        p.data_ptr() for p in teacher.backbone.parameters()
    )


def test_an_update_is_of_jumps_and_of_texts_at_rest(flow: Path, data: Path, tmp_path: Path) -> None:
    """Every other row; a row's jump is the same in whatever batch, and its state is real text at its beginning."""
    stage = stage_of(flow, data, tmp_path / "run", objective="psd", batch_size=8)
    studio, draw = stage.studio, stage.draw("generator", 3)
    trip = studio.trip(draw, 3)
    assert trip.still is not None
    assert_close(trip.x0, studio.real(draw.rows(torch.arange(0, 8, 2))))
    assert_close(trip.still.x0, studio.real(draw.rows(torch.arange(1, 8, 2))))
    assert torch.equal(trip.t, trip.way.begin)
    assert bool((trip.way.end < trip.way.middle).all() and (trip.way.middle < trip.t).all())
    part = studio.trip(draw.rows(torch.tensor([4, 5])), 3)
    assert torch.equal(part.x_t, trip.x_t[2:3])
    assert torch.equal(part.way.end, trip.way.end[2:3])
    schedule, mask = studio.process.noise_schedule, trip.cond.mask
    alpha, sigma = schedule.alpha(trip.t), schedule.sigma(trip.t)
    for row in range(len(trip.t)):
        eps = (trip.x_t - alpha[row] * trip.x0)[row][mask[row]] / sigma[row]
        assert abs(float(eps.mean())) < 5 / eps.numel() ** 0.5
        assert abs(float(eps.square().mean()) - 1) < 5 * (2 / eps.numel()) ** 0.5
    assert torch.equal(trip.x_t[~mask], trip.x0[~mask])


def test_only_the_student_learns_and_targets_can_be_its_average(flow: Path, data: Path, tmp_path: Path) -> None:
    stage = stage_of(flow, data, tmp_path / "run", objective={"name": "psd", "averaged": True})
    teacher = {name: p.clone() for name, p in stage.networks.teacher.named_parameters()}
    for step in range(3):
        stage.step(step)
    assert tiny.same(dict(stage.networks.teacher.named_parameters()), teacher)
    turn, trip = Turn(stage.networks, None, critic=False), stage.on_the_way(3)
    assert isinstance(trip, Trip)
    asked = (trip.x_t, trip.t, trip.cond, trip.way.end)
    own, averaged, target = (turn.ask(who, *asked).x0 for who in ("student", "averaged", "target"))
    assert torch.equal(own, target)
    assert own.requires_grad
    assert not averaged.requires_grad
    assert not target.requires_grad
    stage.ema.copy_to(stage.networks.student.backbone)
    assert torch.equal(turn.ask("target", *asked).x0, averaged)
    assert not torch.equal(own, averaged)


def test_the_folder_names_the_flow_map_and_takes_any_number_of_steps(flow: Path, data: Path, tmp_path: Path) -> None:
    student = load_student(distilled(flow, data, tmp_path / "run", objective="psd", generator_steps=2))
    assert student.architecture.sampler == FlowMapSampler(steps=2)
    assert student.denoiser.two_times
    for steps in (1, 3, 8):
        seen: list[float] = []
        student.generate(SOURCE, steps=steps, observe=lambda k, t, x, x0, seen=seen: seen.append(t))
        assert_close(torch.tensor(seen), torch.tensor([1 - k / steps for k in range(steps)]))
    noisy = student.generate(SOURCE, sampler={"name": "flow_map", "gamma": 0.5}, num_samples=2)
    assert len(noisy[0]) == 2
    assert student.choose_sampler("flow_map", 5) == FlowMapSampler(steps=5)
    for other in ("one_step", "renoise"):  # they would ask it at one time only, which is no jump
        with pytest.raises(UserError, match=f"sampler '{other}': this student jumps along a flow map"):
            student.choose_sampler(other, None)


def test_a_teacher_takes_its_jumps_as_eulers_steps(flow: Path) -> None:
    teacher = load_teacher(flow)
    assert teacher.generate(SOURCE, sampler="flow_map", steps=7) == teacher.generate(
        SOURCE, sampler={"name": "euler", "guard": 0.0}, steps=7
    )


def test_the_first_release_in_two_stages(flow: Path, residual: Path, data: Path, tmp_path: Path) -> None:
    """The first student holds the teacher as it was; the second is one network and fits the first one's jumps."""
    first, frozen = load_student(residual), load_teacher(flow).denoiser.backbone.state_dict()
    assert tiny.same(first.denoiser.backbone.frozen.state_dict(), frozen)  # type: ignore[operator, union-attr]
    assert first.generate(SOURCE, steps=2)
    matching = {"objective": {"name": "map_matching", "map": str(residual)}, "stages": [{"steps": 60}]}
    second = load_student(distilled(flow, data, tmp_path / "run", **matching, generator={"lr": 1e-2}, batch_size=16))
    assert type(second.denoiser.backbone) is type(load_teacher(flow).denoiser.backbone)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [row["generator_map_matching"] for row in rows if row["kind"] == "distill"]
    assert sum(losses[-20:]) < sum(losses[:20])


def test_the_map_must_be_of_this_teachers_student(
    flow: Path, residual: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before anything is done: another teacher's weights, other tokens."""

    def refused(teacher: Path, complaint: str) -> None:
        with pytest.raises(UserError, match=complaint) as caught:
            distilled(teacher, data, tmp_path / "run", objective={"name": "map_matching", "map": str(residual)})
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    other = tiny.run_fit(data, tmp_path / "other", seed=1, **FLM)
    refused(other, f"map: the student in {residual} was made of a teacher of other weights; give this one's student")
    with monkeypatch.context() as patch:
        patch.setattr(students, "load_student", lambda folder: renamed(load_student(folder)))
        refused(
            flow, f"map: the student in {residual} has another vocabulary than the teacher; give this one's student"
        )
    half = load_student(residual)
    half.save_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    assert students.guide(str(tmp_path / "half"), load_teacher(flow)).denoiser.two_times


def renamed(student: OneStepGenerator) -> OneStepGenerator:
    """A student with as many tokens, one of which is written in another way."""
    kept = json.loads(student.tokenizer.backend.to_str())
    vocab = kept["model"]["vocab"]
    vocab["a-word-of-its-own"] = vocab.pop(max(vocab, key=vocab.__getitem__))
    return OneStepGenerator(
        student.denoiser,
        Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(kept))),
        student.architecture,
        student.recipe,
    )


def test_a_run_goes_on_with_the_map_that_it_began_with(flow: Path, residual: Path, data: Path, tmp_path: Path) -> None:
    """Another student in the same folder is another run; the same one elsewhere was another setting already."""
    settings: dict[str, Any] = {"objective": {"name": "map_matching", "map": str(tmp_path / "map")}}
    shutil.copytree(residual, tmp_path / "map")
    distilled(flow, data, tmp_path / "run", **settings)
    distilled(flow, data, tmp_path / "run", resume=True, **settings)
    shutil.rmtree(tmp_path / "map")
    shutil.copytree(distilled(flow, data, tmp_path / "second", objective="residual_psd", seed=1), tmp_path / "map")
    with pytest.raises(
        UserError, match=rf"holds another run: map\.{tmp_path / 'map'} was '\w+' and is now '"
    ) as caught:
        distilled(flow, data, tmp_path / "run", resume=True, **settings)
    assert "\n" not in str(caught.value)


def test_a_run_that_was_cut_off_ends_the_same(
    flow: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "objective": {"name": "lsd", "averaged": True},
        "run": {"checkpoint_every": 2, "log_every": 1, "device": "cpu"},
    }
    whole = tiny.weights(distilled(flow, data, tmp_path / "whole", **settings))
    step = StageRun.step
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StageRun, "step", lambda self, k: stop() if k == 3 else step(self, k))
        distilled(flow, data, tmp_path / "cut", **settings)
    assert tiny.weights(distilled(flow, data, tmp_path / "cut", resume=True, **settings)) == whole


def stop() -> None:
    raise KeyboardInterrupt


def test_consistency_teaches_a_student_of_any_family(teacher: Path, data: Path, tmp_path: Path) -> None:
    """It has the teacher's network, and the samplers of other students; its jumps begin at t_init or below."""
    student = load_student(tiny.run_distill(teacher, data, tmp_path / "run", objective="consistency"))
    assert student.architecture.sampler.registered_name == "one_step"
    several = tiny.run_distill(teacher, data, tmp_path / "several", objective="consistency", generator_steps=3)
    assert load_student(several).architecture.sampler.registered_name == "renoise"
    made = tiny.distiller(teacher, data, tmp_path / "third", objective="consistency", t_init=0.8, batch_size=64)
    trip = StageRun(made, 0, None).on_the_way(0)
    assert isinstance(trip, Trip)
    assert trip.still is None
    assert 0.7 < float(trip.t.max()) <= 0.8
    assert_close(trip.t, torch.maximum((32 * trip.t / 0.8).round() / 32 * 0.8, trip.t.min()))
    stages = [{"steps": 1, "objective": "consistency"}, {"steps": 1, "objective": "dmd"}]
    assert tiny.run_distill(teacher, data, tmp_path / "mixed", stages=stages, adv=True).exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"adv": True}, r"adv: objective 'psd' learns from noised real text alone; set adv=null"),
        ({"anchor": True}, "anchor: objective 'psd'"),
        ({"codes": 4}, "codes: objective 'psd'"),
        ({"generator_steps": 2, "generator_input": "noised_data"}, "generator_input=noised_data: objective 'psd'"),
        ({"stages": [{"objective": "psd"}, {"objective": "dmd"}]}, "'psd' and 'dmd' make different kinds of student"),
        ({"stages": [{"objective": "psd", "critic_warmup": 3}]}, "no critic learns in this stage"),
        ({"objective": {"name": "psd", "loss": "pseudo_huber"}}, "loss"),
        ({"objective": "map_matching"}, "map"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Recipe(**{"objective": "psd", **settings})


def test_what_a_teacher_cannot_do_is_refused(
    teacher: Path, flow: Path, residual: Path, data: Path, tmp_path: Path
) -> None:
    def refused(of: Path, complaint: str, **changes: Any) -> None:
        with pytest.raises(UserError, match=complaint) as caught:
            tiny.run_distill(of, data, tmp_path / "run", **changes)
        assert "\n" not in str(caught.value)

    refused(teacher, "'psd' makes a student of two times, which backbone 'diffuseq'", objective="psd")
    crossed = {"name": "consistency", "loss": "cross_entropy"}
    refused(teacher, "this teacher puts out x0; set objective.loss=squared", objective=crossed)
    refused(flow, "set batch_size to 2 or more", **{**FLM, "objective": "psd", "batch_size": 1})
    gone = {"name": "map_matching", "map": str(tmp_path / "gone")}
    refused(flow, "gone does not exist", **{**FLM, "objective": gone})
    one_time = distilled(flow, data, tmp_path / "one", objective="consistency")
    refused(flow, "has no second time", **{**FLM, "objective": {"name": "map_matching", "map": str(one_time)}})


def test_the_plan_says_so() -> None:
    lines = describe(Recipe(objective="psd", generator_steps=4), 0)
    assert lines[0].endswith("diagonal=teacher); no critic")
    assert "4 from noise to text" in lines[1]
    assert "real text, noised" in lines[2]
