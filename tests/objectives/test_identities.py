"""What holds for every objective whatever the networks say: masks, order, halves, and who equals whom."""

from dataclasses import dataclass, field, replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit import objectives
from dlkit.denoiser import Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.kernels.score_distillation import Reduction
from dlkit.objectives._base import Noised, Objective
from dlkit.objectives._matching import Weight
from dlkit.objectives.adversarial import Loss
from dlkit.objectives.diff_instruct import DiffInstruct
from dlkit.objectives.dmd import Dmd
from dlkit.objectives.f_distill import FDistill
from dlkit.objectives.sid import Sid
from dlkit.part import from_spec
from dlkit.randomness import Stream
from dlkit.spaces.embedding import EmbeddingSpace

L, D = 5, 3
EXACT = {"rtol": 1e-9, "atol": 1e-12}
SEEDS = st.integers(0, 10**6)
WEIGHTS, REDUCTIONS = get_args(Weight), get_args(Reduction)

MATCHING = ["sid", "dmd", "fisher", "f_distill", "moment_matching"]
CASES: list[dict[str, Any]] = [
    *({"name": name, "weight": weight} for name in MATCHING for weight in ("l1", "kl")),
    *({"name": "sid", "reduction": reduction} for reduction in REDUCTIONS),
    {"name": "diff_instruct"},
    *({"name": "adversarial", "loss": loss, "r1": 1.0, "r2": 2.0} for loss in get_args(Loss)),
    {"name": "ode_regression"},
    {"name": "reflow"},
    *({"name": "refine", "noise": noise} for noise in ("own", "fresh")),
]


def test_no_objective_is_left_out() -> None:
    assert {case["name"] for case in CASES} == set(objectives.names())


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
        logits = 2 * self._network("head", noised, True).x0.sum(-1)
        return (logits * noised.cond.mask).sum(1) if self.pooled else logits

    def _network(self, name: str, noised: Noised, graph: bool) -> Prediction:
        x = noised.x_t if graph else noised.x_t.detach()
        matrix = Stream(self.seed, name).normal(torch.arange(1), D, D)[0].double()
        x0 = torch.sin(x @ matrix + noised.t[:, None, None])
        return Prediction(x0, x0)


def batch(seed: int, size: int) -> Noised:
    """Random states, times and masks; the first sample has generated positions only, the last none."""
    index, stream = torch.arange(size), Stream(seed, "batch")
    draw = lambda name: stream.named(name).normal(index, L, D).double()  # noqa: E731
    mask = stream.named("mask").uniform(index, L) < 0.6
    mask[0], mask[-1] = True, False
    x0, t = draw("x0").requires_grad_(), stream.named("t").uniform(index)
    cond = Condition(draw("anchor"), mask)
    x_t = GaussianProcess().q_sample(x0, t, draw("eps"), cond)
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


def losses(objective: Objective, roles: PositionRoles, fake: Noised, real: Noised) -> dict[str, Tensor]:
    """All terms of both turns."""
    generator = objective.generator_terms(roles, replace(fake, memo={}))
    critic = objective.critic_terms(roles, replace(fake, memo={}), replace(real, memo={}))
    return {f"generator_{k}": v for k, v in generator.items()} | {f"critic_{k}": v for k, v in critic.items()}


def made(case: dict[str, Any], **changes: Any) -> Objective:
    return from_spec(objectives.registry, {**case, **changes})


def frozen(case: dict[str, Any]) -> Objective:
    """With the one normaliser that looks across a batch held still."""
    return made(case, **({"normalise": "none"} if case["name"] == "f_distill" else {}))


def gradient(loss: Tensor, x0: Tensor) -> Tensor:
    """Zero where nothing depends on x0, as in the critic's terms of a teacher."""
    return torch.autograd.grad(loss, x0, retain_graph=True, materialize_grads=True)[0] if loss.requires_grad else 0 * x0


case_of = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))


@case_of
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, pooled=st.booleans())
def test_what_stands_at_given_positions_never_changes_a_loss(case: dict[str, Any], seed: int, pooled: bool) -> None:
    """Neither a value, nor a gradient; and the gradient there is zero."""
    roles, objective = PositionRoles(seed, pooled), made(case)
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


@case_of
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, pooled=st.booleans(), extra=st.integers(1, 4))
def test_more_given_positions_never_change_a_loss(case: dict[str, Any], seed: int, pooled: bool, extra: int) -> None:
    roles, objective = PositionRoles(seed, pooled), made(case)

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


@case_of
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, pooled=st.booleans())
def test_the_order_of_the_samples_changes_nothing_but_order(case: dict[str, Any], seed: int, pooled: bool) -> None:
    roles, objective = PositionRoles(seed, pooled), made(case)
    fake, real = batch(seed, 6), batch(seed + 1, 6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    after = losses(objective, roles, rows(fake, order), rows(real, order))
    for name, loss in losses(objective, roles, fake, real).items():
        assert_close(after[name], loss, **EXACT)
        assert_close(gradient(after[name], fake.x0), gradient(loss, fake.x0), **EXACT)


@case_of
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, pooled=st.booleans(), first=st.integers(1, 6))
def test_parts_combine_to_the_whole(case: dict[str, Any], seed: int, pooled: bool, first: int) -> None:
    """The loss of a batch is that of its parts weighted by their numbers of samples."""
    roles, objective = PositionRoles(seed, pooled), frozen(case)
    fake, real = batch(seed, 7), batch(seed + 1, 7)
    whole = losses(objective, roles, fake, real)
    parts = [torch.arange(first), torch.arange(first, 7)]
    each = [losses(objective, roles, rows(fake, part), rows(real, part)) for part in parts]
    for name, loss in whole.items():
        combined = torch.stack([len(part) / 7 * found[name] for part, found in zip(parts, each, strict=True)]).sum()
        assert_close(combined, loss, **EXACT)
        assert_close(gradient(combined, fake.x0), gradient(loss, fake.x0), **EXACT)


# --- who equals whom


def step(objective: Objective, seed: int) -> Tensor:
    """The gradient that reaches the student's output."""
    fake = batch(seed, 5)
    (loss,) = objective.generator_terms(PositionRoles(seed), fake).values()
    return torch.autograd.grad(loss, fake.x0)[0]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(-3, 3), st.sampled_from(WEIGHTS), st.sampled_from(REDUCTIONS))
def test_sid_with_detached_scores_is_dmd(seed: int, mu: float, weight: Weight, reduction: Reduction) -> None:
    """Bit for bit, for any mu."""
    sid = Sid(mu=mu, weight=weight, reduction=reduction, detach_scores=True)
    found = step(sid, seed)
    assert torch.equal(found, step(Dmd(weight=weight, reduction=reduction), seed))
    assert found.any()


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from(["kl", "kl_sigma2"]), st.sampled_from(REDUCTIONS), st.sampled_from(["time_bins", "none"]))
def test_f_distill_with_reverse_kl_is_diff_instruct(
    seed: int, weight: Any, reduction: Reduction, normalise: Any
) -> None:
    distill = FDistill(divergence="reverse_kl", weight=weight, reduction=reduction, normalise=normalise)
    assert_close(step(distill, seed), step(DiffInstruct(weight=weight, reduction=reduction), seed), **EXACT)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_sid_with_live_scores_is_not_dmd(seed: int) -> None:
    """The identities above compare something: gradients through the networks' inputs are there and differ."""
    assert not torch.allclose(step(Sid(mu=1.0), seed), step(Dmd(), seed))
    forward = FDistill(divergence="forward_kl", weight="kl", normalise="none")
    assert not torch.allclose(step(forward, seed), step(DiffInstruct(weight="kl"), seed))
