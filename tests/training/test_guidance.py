"""Guidance in fitting, distillation and evaluation: who is asked without its source, and what becomes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import tiny
from dlkit.data.sequences import merge_source
from dlkit.denoiser import Denoiser
from dlkit.errors import UserError
from dlkit.evaluation.folder import evaluate_folder
from dlkit.exchange import export_teacher
from dlkit.files import read_json
from dlkit.generator import load_student, load_teacher
from dlkit.guidance import Guided
from dlkit.objectives._base import Noised
from dlkit.recipe import Guidance, Recipe
from dlkit.samplers.ddim import Ddim
from dlkit.training.stage import StageRun
from dlkit.training.turns import Turn

SOURCES = ["where are books sold in paris ?", "is it wet in rome in may ?"]
LSG = {"teacher": 3.0, "fake_score": 3.0, "critic": 3.0}


@pytest.fixture(scope="module")
def guidable(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that has seen texts without their source."""
    out = tmp_path_factory.mktemp("guidable") / "fit"
    return tiny.run_fit(data, out, fit={"condition_dropout": 0.3, "optimizer": {"lr": 1e-2}, "steps": 20})


@pytest.fixture
def stage(guidable: Path, data: Path, tmp_path: Path) -> Callable[..., StageRun]:
    """The first stage of a distillation with some guidance."""

    def make(guidance: dict[str, float], **changes: Any) -> StageRun:
        watch = changes.pop("watch", lambda optimizer: None)
        engine = tiny.WatchedEngine(watch)
        settings = {"batch_size": 8, "guidance": guidance, **changes}
        made = StageRun(tiny.distiller(guidable, data, tmp_path / "run", engine, **settings), 0, None)
        disturb(made.networks.fake)
        return made

    return make


def disturb(network: Denoiser | None) -> None:
    """The fake score is not the teacher any more."""
    if network is not None:
        with torch.no_grad():
            for k, parameter in enumerate(network.backbone.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(k)))


def some_states(stage: StageRun, dropout: float = 0.0) -> Noised:
    draw = stage.draw("critic", 0)
    return stage.studio.noised(stage.studio.condition(draw).anchor, draw, "critic/fake", 0, dropout)


def counted(backbone: nn.Module) -> list[None]:
    """One item for each call of a network from now on."""
    calls: list[None] = []
    backbone.register_forward_pre_hook(lambda module, args: calls.append(None))
    return calls


def without_source(network: Denoiser, noised: Noised, pad_id: int) -> Tensor:
    """x0 of a network that sees padding in place of the source, laid out by hand."""
    padded = torch.where(noised.cond.mask[..., None], noised.x_t, network.space.table[pad_id])
    return network.backbone(padded, network.process.noise_schedule.network_time(noised.t), None)[0]


def with_source(network: Denoiser, noised: Noised) -> Tensor:
    return network.backbone(noised.x_t, network.process.noise_schedule.network_time(noised.t), None)[0]


# --- fitting


def test_the_given_tokens_of_some_samples_become_padding(data: Path, tmp_path: Path) -> None:
    fitter = tiny.fitter(data, tmp_path / "fit", fit={"condition_dropout": 0.25, "batch_size": 2000})
    draw = fitter.corpus.draw(2000, 0, 0, fitter.engine.device)
    ids, given = fitter.seen_ids(draw, 0), ~draw.batch.mask
    pad = fitter.tokenizer.pad_id
    dropped = torch.tensor([bool((row[keep] == pad).all()) for row, keep in zip(ids, given, strict=True)])
    assert float(dropped.double().mean()) == pytest.approx(0.25, abs=0.05)
    assert torch.equal(ids[~dropped], draw.batch.ids[~dropped])
    assert torch.equal(ids[draw.batch.mask], draw.batch.ids[draw.batch.mask])
    few = fitter.corpus.draw(16, 0, 0, fitter.engine.device)
    assert torch.equal(fitter.seen_ids(few, 0)[:16] == pad, (ids == pad)[:16][:, :24])
    assert not torch.equal(fitter.seen_ids(few, 1), fitter.seen_ids(few, 0))


def test_the_loss_is_of_what_is_left(data: Path, tmp_path: Path) -> None:
    """The batch that the family's loss gets."""
    fitter = tiny.fitter(data, tmp_path / "fit", fit={"condition_dropout": 0.5})
    draw = fitter.corpus.draw(8, 0, 0, fitter.engine.device)
    t = torch.full((8,), 0.5, dtype=torch.float64)
    (batch,) = fitter.microbatches(draw, t, torch.ones_like(t), 0)
    assert torch.equal(batch.ids, fitter.seen_ids(draw, 0))
    assert not torch.equal(batch.ids, draw.batch.ids)
    assert torch.equal(batch.mask, draw.batch.mask)


def test_without_dropout_nothing_is_drawn(data: Path, tmp_path: Path) -> None:
    fitter = tiny.fitter(data, tmp_path / "fit")
    draw = fitter.corpus.draw(8, 0, 0, fitter.engine.device)
    assert fitter.seen_ids(draw, 0) is draw.batch.ids


def test_the_folder_says_so(guidable: Path, teacher: Path) -> None:
    assert read_json(guidable / "config.json")["condition_dropout"] == 0.3
    assert load_teacher(guidable).architecture.condition_dropout == 0.3
    assert load_teacher(teacher).architecture.condition_dropout == 0.0


def test_it_survives_the_official_format(guidable: Path, tmp_path: Path) -> None:
    again = load_teacher(export_teacher(guidable, tmp_path / "official"))
    assert again.architecture.condition_dropout == 0.3
    led, wanted = (model.generate(SOURCES, steps=2, guidance=3.0) for model in (again, load_teacher(guidable)))
    assert led == wanted


# --- sampling


def test_guided_texts(guidable: Path, tmp_path: Path) -> None:
    """They differ, do not depend on their batch, and cost two calls; w = 1 costs one and changes nothing."""
    model = load_teacher(guidable)
    calls = counted(model.denoiser.backbone)
    plain = model.generate_tokens(SOURCES, steps=3)
    assert len(calls) == 3
    assert model.generate_tokens(SOURCES, steps=3, guidance=1.0) == plain
    assert len(calls) == 6
    led = model.generate_tokens(SOURCES, steps=3, guidance=4.0)
    assert len(calls) == 12
    assert led != plain
    assert model.generate_tokens(SOURCES[::-1], steps=3, guidance=4.0, batch_size=1) == led[::-1]


def test_the_sampler_walks_on_guided_predictions(guidable: Path) -> None:
    model, seen = load_teacher(guidable), []
    model.generate(SOURCES, steps=1, guidance=2.0, observe=lambda k, t, x_t, x0: seen.append((t, x_t, x0)))
    (t, x_t, x0), network, tok = seen[0], model.denoiser, model.tokenizer
    rows = [merge_source(ids, 24, sep_id=tok.sep_id, pad_id=tok.pad_id) for ids in tok.encode_batch(SOURCES)]
    ids, mask = torch.tensor([row for row, _ in rows]), torch.tensor([row for _, row in rows]).bool()
    source = network.space.embed(ids)
    time = network.process.noise_schedule.network_time(torch.full((2,), t, dtype=torch.float64))
    pad = network.space.table[tok.pad_id].expand_as(source)
    told, free = (network.backbone(torch.where(mask[..., None], x_t, anchor), time)[0] for anchor in (source, pad))
    assert_close(x0, free + 2.0 * (told - free), rtol=1e-5, atol=1e-5)


def test_reports_hold_it(guidable: Path, data: Path) -> None:
    report = evaluate_folder(load_teacher(guidable), data, limit=2, steps=3, guidance=2.0)
    assert report["protocol"]["guidance"] == 2.0
    assert (report["models"][0]["nfe"], report["models"][0]["name"]) == (6, "teacher ddim 3 guidance 2")
    plain = evaluate_folder(load_teacher(guidable), data, limit=2, steps=3)
    assert (plain["protocol"]["guidance"], plain["models"][0]["nfe"]) == (1.0, 3)


def test_guidance_of_a_model_that_was_not_trained_for_it_is_refused(
    teacher: Path, guidable: Path, data: Path, tmp_path: Path
) -> None:
    bare, student = load_teacher(teacher), load_student(tiny.run_distill(guidable, data, tmp_path / "run"))
    with pytest.raises(
        UserError, match=r"guidance=2: this teacher was never trained without its sources; train one wi"
    ):
        bare.generate(SOURCES, guidance=2.0)
    with pytest.raises(UserError, match=r"guidance=2: this student was never .*; guide its teacher in distillation"):
        student.generate(SOURCES, guidance=2.0)
    with pytest.raises(UserError, match="guidance must be a finite number, not nan"):
        bare.generate(SOURCES, guidance=float("nan"))
    assert bare.generate(SOURCES, guidance=1.0) == bare.generate(SOURCES)


# --- distillation


def test_a_teacher_that_cannot_be_guided_is_told_before_any_work(teacher: Path, data: Path, tmp_path: Path) -> None:
    for guidance in ({"teacher": 2.0}, LSG, {"condition_dropout": 0.1}):
        with pytest.raises(UserError, match=r"guidance: the teacher was never trained without its sources; train one"):
            tiny.run_distill(teacher, data, tmp_path / "run", guidance=guidance)
    assert not (tmp_path / "run").exists()


def test_a_fake_score_that_nothing_teaches_is_refused() -> None:
    with pytest.raises(UserError, match=r"guidance: fake_score=2 asks the fake score without its source, .*critic=2"):
        Recipe(guidance={"fake_score": 2.0})  # type: ignore[arg-type]
    Recipe(guidance={"fake_score": 2.0, "condition_dropout": 0.1})  # type: ignore[arg-type]
    Recipe(guidance={"fake_score": 2.0, "critic": 2.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("critic", [True, False])
def test_roles_give_guided_predictions(critic: bool, stage: Callable[..., StageRun]) -> None:
    made = stage({"teacher": 2.0, "fake_score": 3.0, "critic": 5.0})
    networks, noised = made.networks, some_states(made)
    pad = made.whole.model.tokenizer.pad_id
    turn = Turn(networks, None, critic=critic)
    assert networks.fake is not None
    for found, network, w in (
        (turn.teacher(noised), networks.teacher, 2.0),
        (turn.fake_score(noised), networks.fake, 5.0 if critic else 3.0),
    ):
        told, free = with_source(network, noised), without_source(network, noised, pad)
        assert not torch.allclose(told, free, atol=1e-3)
        assert_close(found.x0, free + w * (told - free), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("guidance", "teacher_calls", "fake_calls"),
    [({}, 1, 2), ({"teacher": 2.0}, 2, 2), ({"teacher": 2.0, "critic": 2.0}, 2, 3), (LSG, 2, 4)],
    ids=["none", "teacher", "critic", "both"],
)
def test_calls_of_an_update(
    guidance: dict[str, float], teacher_calls: int, fake_calls: int, stage: Callable[..., StageRun]
) -> None:
    made = stage(guidance)
    assert made.networks.fake is not None
    networks = made.networks
    teacher, fake, twin = (
        counted(one.backbone) for one in (networks.teacher, made.networks.fake, networks.frozen_fake)
    )
    made.step(0)
    assert [len(teacher), len(fake) + len(twin)] == [teacher_calls, fake_calls]


def test_the_student_is_asked_once_with_its_source(stage: Callable[..., StageRun]) -> None:
    made = stage(LSG | {"condition_dropout": 0.5})
    seen: list[Tensor] = []
    made.networks.student.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    draws = [made.draw("critic", 0), made.draw("generator", 0)]
    made.step(0)
    assert len(seen) == 2
    for x, draw in zip(seen, draws, strict=True):
        given = ~draw.batch.mask
        assert torch.equal(x[given], made.studio.space.embed(draw.batch.ids)[given])


def test_the_critic_learns_a_guided_prediction(stage: Callable[..., StageRun]) -> None:
    """The gradient of psi is that of mean |x0_null + w (x0_cond - x0_null) - e|^2."""
    found: dict[str, Tensor] = {}

    def watch(optimizer: torch.optim.Optimizer) -> None:
        if optimizer is made.critic_optimizer and made.networks.fake is not None:
            found.update({n: p.grad.clone() for n, p in made.networks.fake.backbone.named_parameters()})  # type: ignore[union-attr]

    made = stage(LSG, watch=watch, weights={"a_dsm": 1.0})
    psi = made.networks.fake
    assert psi is not None
    draw = made.draw("critic", 0)
    e = made.generate(draw, "critic", 0, graph=False)
    noised = made.studio.noised(e, draw, "critic/fake", 0)
    told, free = with_source(psi, noised), without_source(psi, noised, made.whole.model.tokenizer.pad_id)
    keep = draw.batch.mask[..., None]
    error = (free + 3.0 * (told - free) - e).square() * keep
    loss = (error.sum((1, 2)) / (keep.sum((1, 2)) * 8)).mean()
    wanted = dict(zip(*zip(*psi.backbone.named_parameters(), strict=True), strict=True))
    gradients = torch.autograd.grad(loss, list(wanted.values()))
    made.critic_step(0)
    for (name, gradient), by_hand in zip(found.items(), gradients, strict=True):
        assert_close(gradient, by_hand, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("adv", [None, True])
def test_each_turn_still_trains_its_own_networks_only(adv: bool | None, stage: Callable[..., StageRun]) -> None:
    turns = []

    def watch(optimizer: torch.optim.Optimizer) -> None:
        critic = optimizer is made.critic_optimizer
        turns.append(critic)
        networks = made.networks
        assert networks.fake is not None
        for module, trained in ((networks.teacher, False), (networks.student.backbone, not critic)):
            assert {p.grad is not None for p in module.parameters()} == {trained}
        assert {p.grad is not None for p in networks.fake.backbone.parameters()} == {critic}

    made = stage(LSG, watch=watch, adv=adv)
    made.step(0)
    assert turns == [True, False]


def test_some_of_the_critics_samples_lose_their_source(stage: Callable[..., StageRun]) -> None:
    """Generated and real text alike, and none of the generator's."""
    made = stage({"fake_score": 2.0, "condition_dropout": 0.25}, batch_size=64, adv=True)
    seen: list[Noised] = []
    adversary = type(made.whole.adversary)
    asked = {"critic_terms": adversary.critic_terms, "real_terms": adversary.real_terms}

    def spy(name: str) -> Any:
        def terms(objective: Any, roles: Any, noised: Noised, *more: Any) -> Any:
            seen.append(noised)
            return asked[name](objective, roles, noised, *more)

        return terms

    pad = made.studio.space.table[made.whole.model.tokenizer.pad_id]
    with pytest.MonkeyPatch.context() as patch:
        for name in asked:
            patch.setattr(adversary, name, spy(name))
        shares = []
        for step in range(4):
            made.critic_step(step)
        for noised in seen:
            given = ~noised.cond.mask
            lost = torch.tensor([bool((x[keep] == pad).all()) for x, keep in zip(noised.x_t, given, strict=True)])
            assert torch.equal(noised.cond.anchor[given], noised.x_t[given])
            shares.append(float(lost.double().mean()))
    assert len(shares) == 8
    assert sum(shares) / 8 == pytest.approx(0.25, abs=0.1)
    draw = made.draw("generator", 0)
    fake = made.studio.noised(made.generate(draw, "generator", 0, graph=True), draw, "generator/fake", 0)
    assert torch.equal(fake.cond.anchor[~fake.cond.mask], made.studio.space.embed(draw.batch.ids)[~draw.batch.mask])


def test_long_and_short_guidance_begins_without_a_pull(guidable: Path, data: Path, tmp_path: Path) -> None:
    """Psi starts as the guided teacher; with guidance of the teacher alone it starts a whole difference away."""
    sizes = []
    for name, guidance in (("both", LSG), ("teacher", {"teacher": 3.0})):
        run = tiny.distiller(guidable, data, tmp_path / name, objective="dmd", guidance=guidance)
        stage = StageRun(run, 0, None)
        draw = stage.draw("generator", 0)
        fake = stage.studio.noised(stage.generate(draw, "generator", 0, graph=True), draw, "generator/fake", 0)
        values = stage.generator_update(fake, 0)
        sizes.append(float(values["generator_grad_norm"]))
    assert sizes[0] == 0.0
    assert sizes[1] > 1e-4


def test_regression_is_to_samples_of_the_guided_teacher(stage: Callable[..., StageRun]) -> None:
    stages = [{"steps": 2, "objective": {"name": "ode_regression", "pairs": 6, "steps": 2}}]
    made = stage({"teacher": 2.0}, stages=stages)
    samples, network = made.samples, made.networks.teacher
    bare = Denoiser(network.space, network.process, network.backbone)
    cond = made.studio.condition(samples.draw)
    pad = made.whole.model.tokenizer.pad_id
    with torch.no_grad():
        z = samples.z(torch.arange(6))
        led, plain = (Ddim(steps=2).sample(each, cond, lambda _: z) for each in (Guided(bare, 2.0, pad), bare))
    assert_close(samples.x0, led)
    assert not torch.allclose(samples.x0, plain, atol=1e-3)


def test_a_guided_run_of_a_student_of_two_steps_goes_on_the_same(guidable: Path, data: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "adv": True,
        "guidance": LSG | {"condition_dropout": 0.2},
        "generator_steps": 2,
        "generator_input": "backward_simulation",
        "stages": [{"steps": 2}, {"steps": 2}],
        "run": {"checkpoint_every": 1},
    }
    straight = tiny.run_distill(guidable, data, tmp_path / "straight", **changes)
    assert load_student(straight).architecture.condition_dropout == 0.0
    half = tiny.distiller(guidable, data, tmp_path / "run", **changes)
    half.run_stage(0, None)
    rest = tiny.distiller(guidable, data, tmp_path / "rest", **changes)
    half.folder.checkpoints.rename(rest.folder.checkpoints)
    rest.run()
    assert tiny.weights(tmp_path / "rest" / "student") == tiny.weights(straight)


def test_padding_is_the_models_own(guidable: Path, data: Path, tmp_path: Path) -> None:
    run = tiny.distiller(guidable, data, tmp_path / "run", guidance=LSG)
    assert isinstance(run.teacher, Guided)
    assert run.teacher.null_id == run.model.tokenizer.pad_id
    run.model.tokenizer.pad_id = 3
    assert StageRun(run, 0, None).networks.null_id == 3


def test_what_is_used() -> None:
    assert not Guidance().is_used
    assert all(Guidance(**{name: 0.5, "critic": 2.0}).is_used for name in ("teacher", "fake_score"))
    assert Guidance(condition_dropout=0.1).is_used
