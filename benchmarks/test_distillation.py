"""One distillation iteration, SiD and adversary, beside Algorithm 1 as one would first write it.

On paper, counted in forward passes of one network, where gradients to its inputs and gradients to its weights cost as
much again each: the critic's turn writes a text (1) and learns from it (3) and from real text (3); the generator's
writes one (3) and follows two frozen networks (2 + 2): 14. With shared samples the critic's text need not be written
(13); with shared predictions one call of the fake score serves both turns (12). In low memory the teacher is called
once more (15). Nothing else can go: no two of the other passes are of the same weights and states.
"""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.measure import Work, peak_bytes
from benchmarks.reference.algorithm1 import Algorithm1, Settings
from benchmarks.versus import Case, Versus
from dlkit.generator import Teacher
from dlkit.randomness import Stream
from dlkit.training.engine import TorchEngine
from dlkit.training.memory import hand_back_freed_memory, keep_freed_memory
from dlkit.training.stage import StageRun

SHARED = ("plan.share_samples=true",)
PREDICTIONS = (*SHARED, "plan.share_predictions=true")
LOW = ("run.memory=low",)
BF16 = ("run.precision=bf16",)
FEW = 2
"""Texts of what is called before anything is measured: it compiles the same, and leaves the same behind."""
CLIP = 1e6  # gradients are compared as they are

Stages = Callable[..., StageRun]


class KeptGradients(TorchEngine):
    """Keeps the gradients of each optimiser step."""

    def step(self, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
        gradients = [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]
        self.found = [*getattr(self, "found", []), gradients]
        return super().step(optimizer, clip)


@pytest.fixture(scope="module")
def taught(quick: bool, device: torch.device) -> Teacher:
    """BERT-small with BERT's vocabulary, 128 positions; one layer and half the positions if the run is quick."""
    if device.type != "cpu":
        pytest.skip("on a CPU only, so far")
    return networks.teacher(1, 512, 8, 2048, 2048, 64) if quick else networks.teacher(*networks.SMALL)


@pytest.fixture(scope="module")
def batch(quick: bool) -> int:
    return 8 if quick else 32


@pytest.fixture
def stages(taught: Teacher, batch: int, tmp_path: Path) -> Stages:
    """Beginnings of a stage with some settings."""
    number: Iterator[int] = count()

    def begun(*settings: str, engine: type[TorchEngine] = TorchEngine) -> StageRun:
        return networks.stage(taught, tmp_path / str(next(number)), [f"batch_size={batch}", *settings], engine)

    return begun


def written(
    taught: Teacher, stage: StageRun, draws: Callable[[str, tuple[int, ...]], Tensor] | None = None
) -> Algorithm1:
    """Algorithm 1 with the settings and the first weights of a stage."""
    recipe, weights = stage.recipe, stage.settings.weights
    assert weights is not None
    settings = Settings(
        mu=stage.settings.objective.mu,  # type: ignore[union-attr]
        a_dsm=weights.a_dsm,
        a_sd=weights.a_sd,
        b_psi=weights.b_adv_psi,
        b_theta=weights.b_adv_theta,
        lr_generator=stage.lr_generator,
        lr_critic=stage.lr_critic,
        clip_generator=recipe.generator.clip,
        clip_critic=recipe.critic.clip,
        betas=recipe.generator.betas,
        eps=recipe.generator.eps,
        ema=recipe.ema,
        t_init=recipe.t_init,
        t_max=stage.settings.time_sampler.t_max,  # type: ignore[union-attr]
        steps=networks.STEPS,
    )
    layer = taught.denoiser.backbone.input_transformers["layer"][0]  # type: ignore[index]
    heads, ff = layer.attention["self"].heads, layer.intermediate["dense"].out_features
    table = taught.denoiser.space.table.detach()  # type: ignore[union-attr]
    made = Algorithm1(taught.denoiser.backbone, (heads, ff), table, settings, draws)  # type: ignore[arg-type]
    assert stage.networks.head is not None
    made.head.load_state_dict(stage.networks.head.state_dict())
    return made


def rows(stage: StageRun, count: int | None = None) -> tuple[tuple[Tensor, Tensor], ...]:
    """The texts, all or some, of a stage's first iteration: the critic's, the real ones and the generator's."""
    drawn = [stage.draw(name, 0).batch for name in ("critic", "critic/real", "generator")]
    return tuple((one.ids[:count], one.mask[:count]) for one in drawn)


def iterations(stage: StageRun) -> Work:
    """The stage's steps, one a call."""
    numbers = count()
    return lambda: stage.step(next(numbers))


def test_gradients_are_the_references(taught: Teacher, stages: Stages) -> None:
    """Those of both turns of the first iteration, of the same draws, to 1e-4."""
    settings = "batch_size=8", f"generator.clip={CLIP}", f"critic.clip={CLIP}", "stages.0.lr_critic=1e-8"
    stage = stages(*settings, engine=KeptGradients)
    drawn = {name: stage.draw(name, 0) for name in ("critic", "critic/real", "generator")}

    def draws(name: str, shape: tuple[int, ...]) -> Tensor:
        whose, _, use = name.rpartition("/")
        rows = {"critic/fake": "critic", "generator/fake": "generator"}.get(whose, whose)
        stream: Stream = stage.studio.stream.named(name).at(0)
        index = drawn[rows].index
        return stream.uniform(index) if use == "time" else stream.normal(index, *shape[1:])

    made = written(taught, stage, draws)
    found: list[dict[str, Tensor]] = []
    step = made._step

    def keeping(optimizer: torch.optim.Optimizer, network: nn.Module, clip: float | None) -> None:
        found.append({name: p.grad.clone() for name, p in network.named_parameters()})  # type: ignore[union-attr]
        step(optimizer, network, clip)

    made._step = keeping  # type: ignore[method-assign]
    made.iteration(*rows(stage))
    stage.step(0)
    learners: tuple[nn.Module, ...] = (stage.networks.critic, stage.networks.student.backbone)
    kept: list[list[Tensor]] = stage.whole.engine.found  # type: ignore[attr-defined]
    for theirs, learner, gradients in zip(found, learners, kept, strict=True):
        names = [name for name, _ in learner.named_parameters()]
        ours = dict(zip(names, gradients, strict=True))
        largest = max(float(gradient.abs().max()) for gradient in theirs.values())
        assert ours.keys() == theirs.keys()
        for name, gradient in theirs.items():
            assert float((ours[name] - gradient).abs().max()) <= 1e-4 * largest, name


def test_iteration(versus: Versus, quick: bool, taught: Teacher, batch: int, stages: Stages) -> None:
    """Ours has the allocator's settings of a run, the reference glibc's own, and in one row ours.

    The reference finds free memory that ours has left, more than a program of its own would; what it hands back ours
    has again before it is timed.
    """
    fresh, size = stages(), f"{'small' if quick else 'BERT-small'}, batch {batch}"
    reference, texts, few = written(taught, fresh), rows(fresh), rows(fresh, FEW)
    forward = networks.flops(taught.architecture, batch)

    def case(name: str, bar: float | None, forwards: int, *settings: str, note: str = "") -> Case:
        stage, least = stages(*settings), min(forwards, 14) * forward
        return Case(
            f"distillation iteration, {name}, {size}",
            iterations(stage),
            bar,
            flops=least,
            bf16=stage.recipe.run.precision == "bf16",
            note=note or f"{forwards} forward passes",
            before=keep_freed_memory,
            settles=not settings,  # "same plan", the first after the reference
            warm=lambda: stages(*settings, f"batch_size={FEW}").step(0),
        )

    plain = lambda: reference.iteration(*texts)  # noqa: E731
    its_settings = lambda: hand_back_freed_memory(now=False)  # noqa: E731
    allocator = "not ours: what the allocator's settings alone bring"
    versus.several(
        Case("reference", plain, before=its_settings, warm=lambda: reference.iteration(*few)),
        [
            case("same plan", 1.05, 14, note="14 forward passes, as the reference"),
            case("shared samples", 1.15, 13, *SHARED),
            case("shared predictions", None, 12, *PREDICTIONS),
            case("low memory", 0.9, 15, *LOW),
            case("bf16", 2.5, 14, *BF16, note="against the fp32 reference"),
            Case(
                f"the reference's iteration with our allocator settings, {size}",
                plain,
                flops=14 * forward,
                note=allocator,
                before=keep_freed_memory,
            ),
        ],
    )


def test_memory(versus: Versus, quick: bool, taught: Teacher, batch: int, stages: Stages) -> None:
    """Peaks of an iteration above weights and the optimisers' state; the gradients of one network are in them."""
    fresh = stages()
    reference, texts, few = written(taught, fresh), rows(fresh), rows(fresh, FEW)
    # of its second call, when the optimisers' state is there
    whole = peak_bytes(lambda: reference.iteration(*texts), first=lambda: reference.iteration(*few))
    peak = peak_bytes(iterations(stages(*LOW)))
    name = f"memory of an iteration, low, {'small' if quick else 'BERT-small'}, batch {batch}"
    # A quick run's states are few beside its gradients.
    versus.compare(name, ours=peak, reference=whole, bar=0.65 if quick else 0.75)
