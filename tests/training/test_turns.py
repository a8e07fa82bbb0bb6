"""Who is trained in which turn, on what."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import tiny
from dlkit.objectives._base import Noised
from dlkit.training.checkpoint import module_state
from dlkit.training.data import Draw
from dlkit.training.distill import Distiller
from dlkit.training.stage import StageRun


def has_gradients(module: nn.Module) -> set[bool]:
    """{True} if all parameters have a gradient, {False} if none has one."""
    return {parameter.grad is not None for parameter in module.parameters()}


def first_stage(distiller: Distiller) -> StageRun:
    return StageRun(distiller, 0, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"adv": True},
        {"adv": None},
        {"adv": True, "plan": {"share_samples": True}},
        {"adv": True, "objective": {"name": "sid", "detach_scores": True}},
        {"adv": True, "plan": {"critic_steps_per_generator_step": 2}, "x0_noise": "sigma_0"},
    ],
    ids=["adversary", "alone", "shared", "detached", "two critic steps"],
)
def test_each_turn_trains_its_own_networks_only(
    changes: dict[str, Any], teacher: Path, data: Path, tmp_path: Path
) -> None:
    turns = []

    def watch(optimizer: torch.optim.Optimizer) -> None:
        networks, critic = stage.networks, optimizer is stage.critic_optimizer
        turns.append("critic" if critic else "generator")
        assert has_gradients(networks.teacher) == {False}
        assert has_gradients(networks.student.backbone) == {not critic}
        assert has_gradients(networks.fake.backbone) == {critic}
        assert networks.head is None or has_gradients(networks.head) == {critic}

    stage = first_stage(tiny.distiller(teacher, data, tmp_path / "run", tiny.WatchedEngine(watch), **changes))
    stage.step(0)
    stage.step(1)
    critic_steps = stage.recipe.plan.critic_steps_per_generator_step
    assert turns == (["critic"] * critic_steps + ["generator"]) * 2


def test_the_space_never_changes(teacher: Path, data: Path, tmp_path: Path) -> None:
    distiller = tiny.distiller(teacher, data, tmp_path / "run", adv=True)
    space = distiller.teacher.space
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    phi = {name: tensor.clone() for name, tensor in module_state(distiller.teacher.backbone).items()}
    distiller.run()
    assert tiny.same(before, space.state_dict())
    assert tiny.same(phi, module_state(distiller.teacher.backbone))
    stage = first_stage(distiller)
    assert stage.networks.student.space is stage.networks.fake.space is space


def record_inputs(*backbones: nn.Module) -> list[Tensor]:
    """The states that a network, or any of its twins, is called with from now on."""
    seen: list[Tensor] = []
    for backbone in backbones:
        backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    return seen


def test_all_networks_see_the_true_source(teacher: Path, data: Path, tmp_path: Path) -> None:
    stage = first_stage(tiny.distiller(teacher, data, tmp_path / "run", adv=True))
    networks = stage.networks
    seen = {name: record_inputs(getattr(networks, name).backbone) for name in ("teacher", "student")}
    seen["fake"] = record_inputs(networks.fake.backbone, networks.frozen_fake.backbone)
    drawn = [stage.draw("critic", 0), stage.draw("critic/real", 0), stage.draw("generator", 0)]
    stage.step(0)
    fake, real, generator = drawn
    for name, draws in {"student": [fake, generator], "fake": [fake, real, generator], "teacher": [generator]}.items():
        assert len(seen[name]) == len(draws)
        for x, draw in zip(seen[name], draws, strict=True):
            given = ~draw.batch.mask
            assert torch.equal(x[given], networks.teacher.space.embed(draw.batch.ids)[given])
            assert not torch.equal(x[~given], networks.teacher.space.embed(draw.batch.ids)[~given])


def test_generated_text_carries_the_true_source(teacher: Path, data: Path, tmp_path: Path) -> None:
    stage = first_stage(tiny.distiller(teacher, data, tmp_path / "run"))
    draw = stage.draw("generator", 0)
    x0 = stage.generate(draw, "generator", 0, graph=True)
    given = ~draw.batch.mask
    assert torch.equal(x0[given], stage.networks.teacher.space.embed(draw.batch.ids)[given])
    assert x0.requires_grad


def test_sigma_0_noises_real_and_generated_text_alike(teacher: Path, data: Path, tmp_path: Path) -> None:
    studio = first_stage(tiny.distiller(teacher, data, tmp_path / "run", x0_noise="sigma_0", batch_size=32)).studio
    draw = Draw(*_rows(studio.space.vocab_size))
    real, generated = studio.condition(draw).anchor.detach(), studio.generated(draw, "x", 0).detach()
    added = [studio.noised(x0, draw, "x", 0).x0 - x0 for x0 in (real, generated)]
    assert_close(added[0], added[1], rtol=0, atol=1e-5)
    assert float(added[0].std()) == pytest.approx(studio.process.sigma_0, rel=0.05)


def _rows(vocab_size: int) -> tuple[Any, Tensor]:
    from dlkit.data.sequences import Batch

    ids = torch.arange(32 * 24).reshape(32, 24) % vocab_size
    return Batch(ids, torch.arange(24).expand(32, 24) >= 10, torch.arange(32)), torch.arange(32)


def test_without_x0_noise_text_is_noised_as_it_is(teacher: Path, data: Path, tmp_path: Path) -> None:
    studio = first_stage(tiny.distiller(teacher, data, tmp_path / "run")).studio
    draw = Draw(*_rows(studio.space.vocab_size))
    x0 = studio.condition(draw).anchor
    assert studio.noised(x0, draw, "x", 0).x0 is x0


def test_a_samples_noise_does_not_depend_on_its_batch(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Four samples alone and as the first four of eight: the same rows, z, times and noise."""
    states, inputs = [], []
    for size in (4, 8):
        stage = first_stage(tiny.distiller(teacher, data, tmp_path / f"run{size}", batch_size=size))
        seen = record_inputs(stage.networks.student.backbone)
        draw = stage.draw("generator", 0)
        states.append(stage.studio.noised(stage.studio.condition(draw).anchor, draw, "generator/fake", 0))
        stage.generate(draw, "generator", 0, graph=False)
        inputs.append(seen[0])
    assert torch.equal(inputs[0], inputs[1][:4])
    assert torch.equal(states[0].t, states[1].t[:4])
    assert torch.equal(states[0].x_t, states[1].x_t[:4])


def spy(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Tensor, Tensor]]:
    """The generated text and the mask of every update from now on."""
    seen: list[tuple[str, Tensor, Tensor]] = []
    critic, generator = stage.critic_update, stage.generator_update

    def note_critic(generated: Tensor, draw: Draw, k: int) -> Any:
        seen.append(("critic", generated, draw.batch.mask))
        return critic(generated, draw, k)

    def note_generator(fake: Noised, step: int) -> Any:
        seen.append(("generator", fake.x0, fake.cond.mask))
        return generator(fake, step)

    monkeypatch.setattr(stage, "critic_update", note_critic)
    monkeypatch.setattr(stage, "generator_update", note_generator)
    return seen


def test_shared_samples(teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last critic update and the generator's see the same text; the critic's earlier ones see others."""
    plan = {"share_samples": True, "critic_steps_per_generator_step": 3}
    stage = first_stage(tiny.distiller(teacher, data, tmp_path / "run", plan=plan))
    seen = spy(stage, monkeypatch)
    stage.step(0)
    assert [name for name, *_ in seen] == ["critic", "critic", "critic", "generator"]
    assert seen[3][1] is seen[2][1]
    assert seen[3][2] is seen[2][2]
    assert not torch.equal(seen[0][1], seen[1][1])
    assert not torch.equal(seen[1][1], seen[2][1])


def test_fresh_samples(teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = first_stage(tiny.distiller(teacher, data, tmp_path / "run"))
    seen = spy(stage, monkeypatch)
    stage.step(0)
    stage.step(1)
    texts = [generated.detach() for _, generated, _ in seen]
    assert len(texts) == 4
    assert not any(torch.equal(a, b) for k, a in enumerate(texts) for b in texts[:k])


def test_more_critic_updates_see_new_rows_and_noise_each(teacher: Path, data: Path, tmp_path: Path) -> None:
    plan = {"critic_steps_per_generator_step": 3}
    stage = first_stage(tiny.distiller(teacher, data, tmp_path / "run", plan=plan))
    seen = record_inputs(stage.networks.student.backbone)
    stage.step(0)
    stage.step(1)
    assert len(seen) == 8
    assert not any(torch.equal(a, b) for k, a in enumerate(seen) for b in seen[:k])
    assert stage.ema.ticks == 2


def test_the_generators_gradient_is_dmds(teacher: Path, data: Path, tmp_path: Path) -> None:
    """With detach_scores and no weight: d/dtheta of mean over samples and elements of x (x0_fake - x0_teacher)."""
    found: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}

    def watch(optimizer: torch.optim.Optimizer) -> None:
        if optimizer is stage.generator_optimizer:
            found.update({n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None})
            expected.update(by_hand())

    def by_hand() -> dict[str, Tensor]:
        networks, stream, index = stage.networks, stage.studio.stream, draw.index
        mask, ids = draw.batch.mask[..., None], draw.batch.ids
        source = networks.teacher.space.embed(ids)
        z = torch.where(mask, stream.named("generator/z").at(0).normal(index, 24, 8), source)
        time = networks.teacher.process.noise_schedule.network_time(torch.full((4,), 0.7455, dtype=torch.float64))
        x = torch.where(mask, student(z, time)[0], source)
        noise = stream.named("generator/fake").at(0)
        t = torch.floor(noise.named("time").uniform(index) * 50).add(1) / 50
        schedule = networks.teacher.process.noise_schedule
        alpha, sigma = (f(t).float()[:, None, None] for f in (schedule.alpha, schedule.sigma))
        x_t = torch.where(mask, alpha * x + sigma * noise.named("eps").normal(index, 24, 8), source)
        with torch.no_grad():
            real = networks.teacher.backbone(x_t, schedule.network_time(t))[0]
            fake = networks.fake.backbone(x_t, schedule.network_time(t))[0]
            direction = (fake - real) * mask / (mask.sum((1, 2), keepdim=True) * 8) / 4
        return dict(zip(found, torch.autograd.grad((x * direction).sum(), list(student.parameters())), strict=True))

    stage = first_stage(
        tiny.distiller(
            teacher,
            data,
            tmp_path / "run",
            tiny.WatchedEngine(watch),
            objective={"name": "sid", "mu": 0.3, "weight": "none", "detach_scores": True},
            weights={"a_sd": 1.0, "a_dsm": 1.0},
            critic={"lr": 1e-2},
        )
    )
    student, draw = stage.networks.student.backbone, stage.draw("generator", 0)
    stage.step(0)
    assert found.keys() == dict(student.named_parameters()).keys()
    assert any(float(gradient.abs().max()) > 1e-6 for gradient in found.values())
    for name, gradient in found.items():
        assert_close(gradient, expected[name], rtol=1e-4, atol=1e-8, msg=name)


def test_the_head_is_the_seeds(teacher: Path, data: Path, tmp_path: Path) -> None:
    distiller = tiny.distiller(teacher, data, tmp_path / "run", adv=True, stages=[{"steps": 1}, {"steps": 1}])
    first, again, second = (StageRun(distiller, number, None).networks.head for number in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert second is not None
    assert tiny.same(first.state_dict(), again.state_dict())
    assert not tiny.same(first.state_dict(), second.state_dict())


def test_the_critic_warms_up_before_the_first_generator_update(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = first_stage(tiny.distiller(teacher, data, tmp_path / "run", stages=[{"steps": 2, "critic_warmup": 3}]))
    seen = spy(stage, monkeypatch)
    stage.step(0)
    stage.step(1)
    assert [name for name, *_ in seen] == [*["critic"] * 4, "generator", "critic", "generator"]
    texts = [generated.detach() for _, generated, _ in seen]
    assert not any(torch.equal(a, b) for k, a in enumerate(texts) for b in texts[:k])
