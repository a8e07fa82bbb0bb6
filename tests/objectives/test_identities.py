"""What holds for every objective and every adversary whatever the networks say: masks, order, halves, who equals whom.

Objectives and heads are those of the registries, in each of their variants, so that a new one is tried by itself.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_args
from zlib import crc32

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit import discriminators, objectives
from dlkit.denoiser import Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.kernels.score_distillation import Reduction
from dlkit.objectives._base import Noised, Objective, Roles
from dlkit.objectives._matching import Weight
from dlkit.objectives._terms import added
from dlkit.objectives._trajectory import Trajectory
from dlkit.objectives.diff_instruct import DiffInstruct
from dlkit.objectives.dmd import Dmd
from dlkit.objectives.f_distill import FDistill
from dlkit.objectives.sid import Sid
from dlkit.part import Part, from_spec
from dlkit.registry import Registry
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.testing import _material as material
from dlkit.testing._promise import variants
from dlkit.testing.objectives import Scene

L, D = 5, material.DIM
EXACT = {"rtol": 1e-9, "atol": 1e-12}
SEEDS = st.integers(0, 10**6)
WEIGHTS, REDUCTIONS = get_args(Weight), get_args(Reduction)

BY_POSITION: dict[str, dict[str, Any]] = {  # with settings under which no weight looks at more than one position
    **{name: {"weight": "kl"} for name in ("sid", "dmd", "fisher", "moment_matching", "diff_instruct")},
    "f_distill": {"weight": "kl", "divergence": "reverse_kl", "normalise": "none"},
}
PENALTIES = {"r1": 1.0, "r2": 2.0}


def parts(registry: Registry[Any]) -> Iterator[Part]:
    """Every part, with each value of each setting that takes a few."""
    for name in registry.usable():
        part = from_spec(registry, {"name": name, **registry.get(name).trial})
        yield from (part, *variants(registry, part))


def adversaries(**settings: Any) -> Iterator[dict[str, Any]]:
    """Every head on the features of either network, with both penalties."""
    for head, features in itertools.product(parts(discriminators.registry), ("fake_score", "teacher")):
        case = {"name": "adversarial", "head": head.spec(), "features": features, **PENALTIES, **settings}
        try:
            made(case)
        except UserError:  # nothing in it learns
            continue
        yield case


def made(case: dict[str, Any], **changes: Any) -> Objective:
    return from_spec(objectives.registry, {**case, **changes})


def case_id(case: dict[str, Any]) -> str:
    """The name and what is not as it is by default."""
    plain = from_spec(objectives.registry, {"name": case["name"], **objectives.get(case["name"]).trial}).spec()
    return "-".join([case["name"], *(f"{key}={value}" for key, value in case.items() if plain[key] != value)])


def normal(seed: int, name: str, *shape: int) -> Tensor:
    """Normal numbers that belong to a seed and a name."""
    generator = torch.Generator().manual_seed(crc32(f"{seed}/{name}".encode()))  # torch looks at 32 bits
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@dataclass
class PositionRoles:
    """Random networks that look at one position at a time, so that no position can be seen from another."""

    seed: int
    pooled: bool = False
    process: GaussianProcess = field(default_factory=GaussianProcess)
    space: EmbeddingSpace = field(default_factory=lambda: EmbeddingSpace(7, D).double())

    def teacher(self, noised: Noised, graph: bool = True) -> Prediction:
        return self._network("teacher", noised, graph)

    def fake_score(self, noised: Noised, graph: bool = True) -> Prediction:
        return self._network("fake", noised, graph)

    def discriminator(self, noised: Noised) -> Tensor:
        logits = self._network("head", noised, True).x0.sum(-1)
        return (logits * noised.cond.mask).sum(1) if self.pooled else logits

    def turn(self, critic: bool) -> "PositionRoles":
        return self

    def _network(self, name: str, noised: Noised, graph: bool) -> Prediction:
        x = noised.x_t if graph else noised.x_t.detach()
        matrix = normal(self.seed, name, D, D)
        x0 = torch.sin(x @ matrix + noised.t[:, None, None])
        return Prediction(x0, x0)


@dataclass
class HeadRoles:
    """The roles of a run with this adversary: its head on features of networks that look at one position at a time."""

    adversary: Objective

    def turn(self, critic: bool) -> Roles:
        return self._turns[critic]

    @cached_property
    def _turns(self) -> tuple[Roles, Roles]:
        generator, critic = (Scene.of(self.adversary, critic).turn for critic in (False, True))
        return generator, critic


@dataclass
class Subject:
    """An objective with the networks that it is tried on."""

    case: dict[str, Any]
    has_head: bool = False

    def roles(self, seed: int) -> PositionRoles | HeadRoles:
        return self._head_roles if self.has_head else PositionRoles(seed, pooled=seed % 2 == 0)

    @cached_property
    def _head_roles(self) -> HeadRoles:
        return HeadRoles(made(self.case))

    def __str__(self) -> str:
        return ("head-" if self.has_head else "") + case_id(self.case)


def each(subjects: list[Subject]) -> list[Any]:
    """As parameters: the first of each objective and of each head takes part in the fast tests."""
    firsts: dict[tuple[str, str | None], Subject] = {}
    for subject in subjects:
        head = subject.case["head"]["name"] if subject.has_head else None
        firsts.setdefault((subject.case["name"], head), subject)
    return [
        pytest.param(subject, id=str(subject), marks=[] if subject in firsts.values() else pytest.mark.slow)
        for subject in subjects
    ]


SUBJECTS = [
    *(
        Subject(part.spec() | (PENALTIES if hasattr(part, "r1") else {}))
        for part in parts(objectives.registry)
        if not isinstance(part, Trajectory)
    ),
    *(Subject(case, has_head=True) for case in adversaries()),
]
SEEING_THE_SOURCE = [Subject(case, has_head=True) for case in adversaries(condition=True)]


def batch(seed: int, size: int, process: GaussianProcess | None = None) -> Noised:
    """Random states, times and masks; the first sample has generated positions only, the last none."""
    draw = lambda name: normal(seed, name, size, L, D)  # noqa: E731
    mask = normal(seed, "mask", size, L) < 0.25
    mask[0], mask[-1] = True, False
    x0, t = draw("x0").requires_grad_(), torch.special.ndtr(normal(seed, "t", size))
    cond = Condition(draw("anchor"), mask)
    x_t = (process or GaussianProcess()).q_sample(x0, t, draw("eps"), cond)
    return Noised(x0, x_t, t, cond, target=draw("target"), noise=draw)


def rows(noised: Noised, index: Tensor) -> Noised:
    """Some samples of a batch, as their own batch; x0 stays the leaf of both."""
    pick = lambda x: x[index]  # noqa: E731
    assert noised.target is not None
    assert noised.noise is not None
    noise = noised.noise
    return Noised(
        pick(noised.x0),
        pick(noised.x_t),
        pick(noised.t),
        Condition(pick(noised.cond.anchor), pick(noised.cond.mask)),
        target=pick(noised.target),
        noise=lambda name: pick(noise(name)),
    )


def losses(objective: Objective, roles: PositionRoles | HeadRoles, fake: Noised, real: Noised) -> dict[str, Tensor]:
    """All terms of both turns."""
    generator = objective.generator_terms(roles.turn(False), replace(fake, memo={}))
    turn, text = roles.turn(True), replace(real, memo={})
    critic = added(objective.critic_terms(turn, replace(fake, memo={}), text), objective.real_terms(turn, text))
    return {f"generator_{k}": v for k, v in generator.items()} | {f"critic_{k}": v for k, v in critic.items()}


def frozen(case: dict[str, Any]) -> Objective:
    """With the one normaliser that looks across a batch held still."""
    return made(case, **({"normalise": "none"} if case["name"] == "f_distill" else {}))


def gradient(loss: Tensor, x0: Tensor) -> Tensor:
    """Zero where nothing depends on x0, as in the critic's terms of a teacher."""
    return torch.autograd.grad(loss, x0, retain_graph=True, materialize_grads=True)[0] if loss.requires_grad else 0 * x0


def test_no_objective_and_no_head_is_left_out() -> None:
    """But those of trajectories, whose state and roles are others: tests/objectives/test_flow_maps.py."""
    trajectories = {name for name in objectives.names() if issubclass(objectives.get(name), Trajectory)}
    assert {subject.case["name"] for subject in SUBJECTS} | trajectories == set(objectives.names())
    heads = {subject.case["head"]["name"] for subject in SUBJECTS if subject.has_head}
    assert heads == set(discriminators.names())


@pytest.mark.parametrize("subject", each(SUBJECTS))
@settings(max_examples=3)
@given(seed=SEEDS)
def test_what_stands_at_given_positions_never_changes_a_loss(subject: Subject, seed: int) -> None:
    """Neither a value, nor a gradient; and the gradient there is zero."""
    roles, objective = subject.roles(seed), made(subject.case)
    fake, real = batch(seed, 6), batch(seed + 1, 6)

    def elsewhere(noised: Noised) -> Noised:
        other = lambda x: torch.where(noised.cond.mask[..., None], x, 7 - 3 * x)  # noqa: E731
        assert noised.target is not None
        return replace(noised, x0=other(noised.x0), x_t=other(noised.x_t), target=other(noised.target))

    before, after = losses(objective, roles, fake, real), losses(objective, roles, elsewhere(fake), elsewhere(real))
    for name, loss in before.items():
        assert_close(after[name], loss, **EXACT)
        grad = gradient(loss, fake.x0)
        assert_close(gradient(after[name], fake.x0), grad, **EXACT)
        if name.startswith("generator"):
            assert not grad[~fake.cond.mask].any()


@pytest.mark.parametrize("subject", each(SUBJECTS))
@settings(max_examples=3)
@given(seed=SEEDS, extra=st.integers(1, 4))
def test_more_given_positions_never_change_a_loss(subject: Subject, seed: int, extra: int) -> None:
    roles, objective = subject.roles(seed), made(subject.case)

    def longer(noised: Noised) -> Noised:
        tail = lambda x: torch.cat((x, x.new_ones(len(x), extra, *x.shape[2:]) * 5), dim=1)  # noqa: E731
        mask = torch.cat((noised.cond.mask, torch.zeros(len(noised.t), extra, dtype=torch.bool)), dim=1)
        assert noised.target is not None
        assert noised.noise is not None
        noise = noised.noise
        return Noised(
            tail(noised.x0),
            tail(noised.x_t),
            noised.t,
            Condition(tail(noised.cond.anchor), mask),
            target=tail(noised.target),
            noise=lambda name: tail(noise(name)),
        )

    fake, real = batch(seed, 4), batch(seed + 1, 4)
    after = losses(objective, roles, longer(fake), longer(real))
    for name, loss in losses(objective, roles, fake, real).items():
        assert_close(after[name], loss, **EXACT)


@pytest.mark.parametrize("subject", each([*SUBJECTS, *SEEING_THE_SOURCE]))
@settings(max_examples=3)
@given(seed=SEEDS)
def test_the_order_of_the_samples_changes_nothing_but_order(subject: Subject, seed: int) -> None:
    roles, objective = subject.roles(seed), made(subject.case)
    fake, real = batch(seed, 6), batch(seed + 1, 6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    after = losses(objective, roles, rows(fake, order), rows(real, order))
    for name, loss in losses(objective, roles, fake, real).items():
        assert_close(after[name], loss, **EXACT)
        assert_close(gradient(after[name], fake.x0), gradient(loss, fake.x0), **EXACT)


@pytest.mark.parametrize("subject", each([*SUBJECTS, *SEEING_THE_SOURCE]))
@settings(max_examples=3)
@given(seed=SEEDS, first=st.integers(1, 6))
def test_parts_combine_to_the_whole(subject: Subject, seed: int, first: int) -> None:
    """The loss of a batch is that of its parts weighted by their numbers of samples, whatever the lengths of these."""
    check_parts(subject, subject.roles(seed), (batch(seed, 7), batch(seed + 1, 7)), first)


@pytest.mark.parametrize("subject", each([subject for subject in SUBJECTS if not subject.has_head]))
@settings(max_examples=3)
@given(seed=SEEDS, first=st.integers(1, L - 1))
def test_parts_combine_where_each_position_has_its_noise(subject: Subject, seed: int, first: int) -> None:
    """As many samples as positions, so that one may be taken for the other; a part has fewer."""
    process = material.process_by_position(L)
    roles = PositionRoles(seed, pooled=seed % 2 == 0, process=process)
    check_parts(subject, roles, (batch(seed, L, process), batch(seed + 1, L, process)), first)


def check_parts(subject: Subject, roles: PositionRoles | HeadRoles, states: tuple[Noised, Noised], first: int) -> None:
    """Of the first samples, and of the others."""
    (fake, real), objective = states, frozen(subject.case)
    count = len(fake.t)
    whole = losses(objective, roles, fake, real)
    parts = [torch.arange(first), torch.arange(first, count)]
    each = [losses(objective, roles, rows(fake, part), rows(real, part)) for part in parts]
    for name, loss in whole.items():
        combined = torch.stack([len(part) / count * found[name] for part, found in zip(parts, each, strict=True)]).sum()
        assert_close(combined, loss, **EXACT)
        assert_close(gradient(combined, fake.x0), gradient(loss, fake.x0), **EXACT)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", [{"name": name} for name in BY_POSITION], ids=lambda case: case["name"])
@settings(max_examples=5)
@given(seed=SEEDS, share=st.floats(-1, 1))
def test_halves_of_a_text_combine_by_their_counts(
    case: dict[str, Any], reduction: Reduction, seed: int, share: float
) -> None:
    """Where no weight looks across positions, a mean counts every generated position alike, and a sum just adds."""
    objective = made(case, **{"reduction": reduction, **BY_POSITION[case["name"]]})
    roles, fake, real = PositionRoles(seed), batch(seed, 2), batch(seed + 1, 2)
    fake, real = rows(fake, torch.tensor([0])), rows(real, torch.tensor([0]))  # all positions are generated
    first = normal(seed, "halves", 1, L) < share
    first[0, 0], first[0, -1] = True, False
    whole = losses(objective, roles, fake, real)
    each = [(part, losses(objective, roles, held(fake, part), held(real, part))) for part in (first, ~first)]
    for name, loss in whole.items():
        adds = reduction == "sum" and name.startswith("generator")
        combined = torch.stack([found[name] * (1 if adds else int(part.sum()) / L) for part, found in each]).sum()
        assert_close(combined, loss, **EXACT)


def held(noised: Noised, mask: Tensor) -> Noised:
    """Only these positions are generated; the others are given, as they stand."""
    return replace(noised, cond=Condition(noised.x0.detach(), mask), memo={})


# --- who equals whom


def step(objective: Objective, seed: int) -> Tensor:
    """The gradient that reaches the student's output."""
    fake = batch(seed, 5)
    (loss,) = objective.generator_terms(PositionRoles(seed), fake).values()
    return torch.autograd.grad(loss, fake.x0)[0]


@settings(max_examples=30)
@given(SEEDS, st.floats(-3, 3), st.sampled_from(WEIGHTS), st.sampled_from(REDUCTIONS))
def test_sid_with_detached_scores_is_dmd(seed: int, mu: float, weight: Weight, reduction: Reduction) -> None:
    """Bit for bit, for any mu."""
    sid = Sid(mu=mu, weight=weight, reduction=reduction, detach_scores=True)
    found = step(sid, seed)
    assert torch.equal(found, step(Dmd(weight=weight, reduction=reduction), seed))
    assert found.any()


@settings(max_examples=30)
@given(SEEDS, st.sampled_from(["kl", "kl_sigma2"]), st.sampled_from(REDUCTIONS), st.sampled_from(["time_bins", "none"]))
def test_f_distill_with_reverse_kl_is_diff_instruct(
    seed: int, weight: Any, reduction: Reduction, normalise: Any
) -> None:
    distill = FDistill(divergence="reverse_kl", weight=weight, reduction=reduction, normalise=normalise)
    assert_close(step(distill, seed), step(DiffInstruct(weight=weight, reduction=reduction), seed), **EXACT)


@settings(max_examples=10)
@given(SEEDS)
def test_sid_with_live_scores_is_not_dmd(seed: int) -> None:
    """The identities above compare something: gradients through the networks' inputs are there and differ."""
    assert not torch.allclose(step(Sid(mu=1.0), seed), step(Dmd(), seed))
    forward = FDistill(divergence="forward_kl", weight="kl", normalise="none")
    assert not torch.allclose(step(forward, seed), step(DiffInstruct(weight="kl"), seed))
