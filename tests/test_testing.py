"""``dlkit.testing`` finds what is wrong with a part, and names it."""

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from dlkit import backbones, decoders, discriminators, metrics, objectives, samplers, schedules, spaces, teachers
from dlkit.backbones._base import Backbone
from dlkit.decoders._base import Decoder, Readable
from dlkit.diffusion import processes, time_samplers
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.time_samplers.uniform import UniformTime
from dlkit.discriminators.mean_pool import MeanPool, MeanPoolHead
from dlkit.errors import UserError
from dlkit.metrics.bleu import Bleu
from dlkit.metrics.dist_1 import Dist1
from dlkit.objectives._base import Needs, Noised, Roles, Terms
from dlkit.objectives._terms import per_sample
from dlkit.objectives.dmd import Dmd
from dlkit.objectives.sid import Sid
from dlkit.part import Part
from dlkit.registry import Registry
from dlkit.samplers.ddim import Ddim
from dlkit.schedules.cosine import CosineSchedule
from dlkit.spaces.embedding import EmbeddingSpace, EmbeddingSpec
from dlkit.starter.backbones import Network
from dlkit.teachers.diffuseq import Diffuseq
from dlkit.testing import check_part, checks

REGISTRIES: list[Registry[Any]] = [
    *(room.registry for room in (schedules, spaces, processes, time_samplers, backbones, objectives)),
    *(room.registry for room in (discriminators, decoders, samplers, metrics, teachers)),
]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """The parts of this file are gone after each test."""
    yield
    for registry in REGISTRIES:
        registry._entries.pop("faulty", None)


def complaint(registry: Registry[Any], part: type[Part], **settings: Any) -> str:
    """What the quick checks say of a part."""
    part = type(part.__name__, (part,), {"__doc__": part.__doc__ or "A part.", "__module__": __name__})
    registry.register("faulty", description="wrong in one way")(part)
    with pytest.raises(AssertionError) as error:
        check_part(registry.kind, "faulty", slow=False, **settings)
    return str(error.value)


class WrongSlope(CosineSchedule):
    def d_alpha(self, t: Tensor) -> Tensor:
        return 1.01 * super().d_alpha(t)


class WrongInverse(CosineSchedule):
    def inverse(self, log_snr: Tensor) -> Tensor:
        return super().inverse(log_snr) + 1e-3


class Float32(CosineSchedule):
    def alpha(self, t: Tensor) -> Tensor:
        return super().alpha(t).float()


class OwnDice(UniformTime):
    def sample(self, u: Tensor, schedule: Any) -> Tensor:
        return super().sample(torch.rand_like(u), schedule)


class Collapsed(EmbeddingSpec):
    def build(self, vocab_size: int) -> EmbeddingSpace:
        space = super().build(vocab_size)
        with torch.no_grad():
            space.table[1] = space.table[0]
        return space


class Forgetful(GaussianProcess):
    def q_sample(self, x0: Tensor, t: Tensor, eps: Tensor, cond: Condition | None = None) -> Tensor:
        return super().q_sample(x0, t, eps)


class Detached(GaussianProcess):
    def q_sample(self, x0: Tensor, t: Tensor, eps: Tensor, cond: Condition | None = None) -> Tensor:
        return super().q_sample(x0.detach(), t, eps, cond) + 0.0 * x0.sum().detach().requires_grad_()


class BatchMeanNetwork(Network):
    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor | None]:
        x0, features = super().forward(x, time, taps)
        return x0 + x0.mean(0), features


class BatchMean(Backbone):
    layers: int = 1
    hidden: int = 8

    def build(self, dim: int, vocab_size: int) -> nn.Module:
        return BatchMeanNetwork(self, dim)  # type: ignore[arg-type]


class Unmasked(Sid):
    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {"all": (roles.teacher(fake).x0 - fake.x0).square().mean()}


class NoGradient(Sid):
    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {name: term.detach() + 0 * fake.x0.sum() for name, term in super().generator_terms(roles, fake).items()}


class FirstCounts(Sid):
    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {"first": (roles.fake_score(fake).x0 - fake.x0)[0, -1].square().mean()}


class AcrossPositions(Dmd):
    """Weighs each sample by its distance from the teacher: [b], and a factor of each position meets it as it is."""

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        gap = roles.teacher(fake).x0 - fake.x0
        near = 1 / (1 + per_sample(gap.square().sum(-1), fake.cond.mask))
        weight = (near * roles.process.noise_schedule.alpha(fake.t)).detach()
        weight = weight if weight.ndim == 2 else weight[:, None]
        return {"near": per_sample(weight * gap.square().sum(-1), fake.cond.mask).mean()}


class OnlyItsGradient(AcrossPositions):
    """Says nothing of it in its value."""

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {name: term - term.detach() for name, term in super().generator_terms(roles, fake).items()}


class WhereItFits(AcrossPositions):
    """Wrong without an error for lengths that no batch has."""

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        other = fake.cond.mask.shape[0] != fake.cond.mask.shape[1]
        return Dmd.generator_terms(self, roles, fake) if other else super().generator_terms(roles, fake)


class UnknownNeeds(Sid):
    needs: ClassVar[Needs] = Needs(roles=frozenset({"oracle"}))


class NotANumber(Sid):
    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return {"sid": (fake.x0 - fake.x0).sum() / 0.0}


class MaskBlindHead(MeanPoolHead):
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return super().forward(features, torch.ones_like(mask))


class MaskBlind(MeanPool):
    def build(self, feature_dim: int) -> nn.Module:
        return MaskBlindHead(feature_dim)


class OutOfVocabulary(Decoder):
    def decode(self, x: Tensor, space: Readable, u: Tensor | None = None) -> Tensor:
        return torch.full(x.shape[:2], space.vocab_size)


class RandomTokens(Decoder):
    def decode(self, x: Tensor, space: Readable, u: Tensor | None = None) -> Tensor:
        return torch.randint(0, space.vocab_size, x.shape[:2])


class OwnNoise(Ddim):
    def sample(self, denoiser: Any, cond: Condition, noise: Any, observe: Any = None) -> Tensor:
        x = super().sample(denoiser, cond, noise, observe)
        return cond.apply(x + 0.1 * torch.randn_like(x))


class Unanchored(Ddim):
    def sample(self, denoiser: Any, cond: Condition, noise: Any, observe: Any = None) -> Tensor:
        return super().sample(denoiser, cond, noise, observe) + 1.0


class Silent(Ddim):
    def sample(self, denoiser: Any, cond: Condition, noise: Any, observe: Any = None) -> Tensor:
        return super().sample(denoiser, cond, noise)


class Undemanding(Bleu):
    def require(self, cases: Any) -> None:
        return None

    def of_source(self, case: Any) -> float:
        return 0.0


class LastCounts(Dist1):
    def score(self, cases: Any) -> float:
        return self.per_source(cases)[-1]


class OneForAll(Diffuseq):
    def losses(self, denoiser: Any, batch: Any) -> dict[str, Tensor]:
        return {name: term.mean() for name, term in super().losses(denoiser, batch).items()}


class Mutable(Sid):
    model_config: ClassVar[Any] = {"frozen": False, "extra": "forbid"}


class Lenient(Sid):
    model_config: ClassVar[Any] = {"frozen": True, "extra": "ignore"}


class Demanding(Sid):
    must: int


@pytest.mark.parametrize(
    ("registry", "part", "told"),
    [
        (schedules.registry, WrongSlope, "d_alpha is not the slope of alpha"),
        (schedules.registry, WrongInverse, r"inverse\(log_snr\(t\)\) is not t"),
        (schedules.registry, Float32, r"alpha\(t\) is torch.float32, not torch.float64"),
        (time_samplers.registry, OwnDice, "two calls differ; draw no random numbers of your own"),
        (spaces.registry, Collapsed, "two tokens have the same state"),
        (processes.registry, Forgetful, "a given position is not the anchor's"),
        (processes.registry, Detached, "no gradient reaches x0"),
        (backbones.registry, BatchMean, "x0 depends on batch mates"),
        (objectives.registry, Unmasked, "term 'all' counts given positions"),
        (objectives.registry, NoGradient, "no gradient reaches the student"),
        (objectives.registry, FirstCounts, "term 'first' depends on the order"),
        (objectives.registry, AcrossPositions, "4 texts of 4 positions, term 'near' depends on the order"),
        (objectives.registry, OnlyItsGradient, "4 texts of 4 positions, the gradient depends on the order"),
        (objectives.registry, WhereItFits, "4 texts of 4 positions, term 'near' depends on the order"),
        (objectives.registry, UnknownNeeds, r"unknown roles \{'oracle'\}"),
        (objectives.registry, NotANumber, "term 'sid' is nan"),
        (discriminators.registry, MaskBlind, "a given position changes the logit"),
        (decoders.registry, OutOfVocabulary, "a token is outside the vocabulary"),
        (decoders.registry, RandomTokens, "two calls differ"),
        (samplers.registry, OwnNoise, "two calls differ; draw noise only from the function you are given"),
        (samplers.registry, Unanchored, "a given position is not the anchor's"),
        (samplers.registry, Silent, "the observer is never called"),
        (metrics.registry, Undemanding, "cases without references are scored, though it needs them"),
        (metrics.registry, LastCounts, "the score is not their mean"),
        (teachers.registry, OneForAll, r"term 'mse' has shape \(\), not one number for each sample"),
        (objectives.registry, Mutable, "mu can be set; leave frozen=True"),
        (objectives.registry, Lenient, "the setting no_such_setting was accepted"),
        (objectives.registry, Demanding, "objectives 'faulty': must: Field required"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_faulty_part_is_found_out(registry: Registry[Any], part: type[Part], told: str) -> None:
    said = complaint(registry, part)
    assert re.search(told, said), said
    assert all(line.startswith(f"{registry.kind}") and "faulty" in line for line in said.splitlines())


def test_settings_go_before_defaults_and_trial() -> None:
    assert "mu=7.0" in complaint(objectives.registry, NotANumber, mu=7.0)


def test_every_choice_of_a_setting_is_tried() -> None:
    class Choosy(Sid):
        def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
            if self.reduction == "sum":
                raise RuntimeError("no sums")
            return super().generator_terms(roles, fake)

    assert "reduction='sum', detach_scores=False) breaks" in complaint(objectives.registry, Choosy)


def test_unknown_names_are_told() -> None:
    with pytest.raises(UserError, match="there is no kind 'objective'; known: schedules"):
        checks("objective", "sid")
    with pytest.raises(AssertionError, match="objectives: nothing is called 'syd'; did you mean 'sid'"):
        check_part("objectives", "syd")


def test_checks_have_names_for_pytest() -> None:
    found: list[Callable[[], None]] = checks("metrics", "dist_1")
    assert {"is_described", "is_plain_data", "is_a_number"} <= {check.__name__ for check in found}
    assert repr(found[0]) == "metrics dist_1 is_described"


class Peeking(Sid):
    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        scale = 1.0 if fake.x0.detach().sum().item() > 0 else 2.0
        return {name: scale * term for name, term in super().generator_terms(roles, fake).items()}


class PeekingTimes(UniformTime):
    def sample(self, u: Tensor, schedule: Any) -> Tensor:
        return super().sample(u if float(u[0]) < 0.5 else 1.0 - u, schedule)


class PeekingProcess(GaussianProcess):
    def q_sample(self, x0: Tensor, t: Tensor, eps: Tensor, cond: Condition | None = None) -> Tensor:
        return super().q_sample(x0, t, eps, cond) if bool(t.max() <= 1.0) else x0


class PeekingSampler(Ddim):
    def sample(self, denoiser: Any, cond: Condition, noise: Any, observe: Any = None) -> Tensor:
        x = super().sample(denoiser, cond, noise, observe)
        return x if bool(x.isfinite().all()) else cond.anchor


@pytest.mark.compile
@pytest.mark.parametrize(
    ("registry", "part"),
    [
        (objectives.registry, Peeking),
        (time_samplers.registry, PeekingTimes),
        (processes.registry, PeekingProcess),
        (samplers.registry, PeekingSampler),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_part_that_asks_the_host_does_not_compile(registry: Registry[Any], part: type[Part]) -> None:
    """A number that Python looks at breaks the graph."""
    part = type(part.__name__, (part,), {"__doc__": part.__doc__ or "A part.", "__module__": __name__})
    registry.register("faulty", description="looks at a number")(part)
    (check,) = [check for check in checks(registry.kind, "faulty") if check.compiles]
    with pytest.raises(AssertionError, match=r"breaks .*[cC]ompile.*'.*[dD]ata-dependent"):
        check()
