"""Objectives ask the roles for what they need and combine it as their docstrings say."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from dlkit.denoiser import Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.kernels.score_distillation import score_distillation
from dlkit.objectives._base import Noised, Objective
from dlkit.objectives._matching import Weight, split_weight
from dlkit.objectives._terms import per_sample
from dlkit.objectives.adversarial import Adversarial, Loss, critic_loss, generator_loss
from dlkit.objectives.diff_instruct import DiffInstruct
from dlkit.objectives.dmd import Dmd
from dlkit.objectives.f_distill import FDistill, density_ratio, normalised
from dlkit.objectives.fisher import Fisher
from dlkit.objectives.moment_matching import MomentMatching
from dlkit.objectives.ode_regression import OdeRegression
from dlkit.objectives.sid import Sid
from dlkit.spaces.embedding import EmbeddingSpace

MASK = torch.tensor([[False, True, True], [False, False, True]])


@dataclass
class LinearRoles:
    """Scores that are multiples of their input; the calls are written down."""

    process: GaussianProcess = field(default_factory=GaussianProcess)
    space: EmbeddingSpace = field(default_factory=lambda: EmbeddingSpace(5, 4))
    calls: list[str] = field(default_factory=list)

    def teacher(self, noised: Noised, graph: bool = True) -> Prediction:
        return self._multiple("teacher", noised, 0.5, graph)

    def fake_score(self, noised: Noised, graph: bool = True) -> Prediction:
        return self._multiple("fake_score", noised, 0.8, graph)

    def discriminator(self, noised: Noised) -> Tensor:
        self.calls.append("discriminator")
        return noised.x_t.sum((1, 2))

    def _multiple(self, role: str, noised: Noised, factor: float, graph: bool) -> Prediction:
        self.calls.append(role)
        x0 = factor * (noised.x_t if graph else noised.x_t.detach())
        return Prediction(x0, x0)


def noised(seed: int = 0) -> Noised:
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randn(2, 3, 4, generator=generator, requires_grad=True)
    t = torch.tensor([0.2, 0.9]).double()
    cond = Condition(torch.zeros(2, 3, 4), MASK)
    return Noised(x0, GaussianProcess().q_sample(x0, t, torch.randn(2, 3, 4, generator=generator), cond), t, cond)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("weight", get_args(Weight))
def test_sid_is_the_kernel_on_the_roles(weight: Weight, detach: bool) -> None:
    objective = Sid(mu=0.7, weight=weight, reduction="sum", detach_scores=detach)
    roles, fake = LinearRoles(), noised()
    terms = objective.generator_terms(roles, fake)
    assert terms.keys() == {"sid"}
    assert roles.calls == ["teacher", "fake_score"]
    (grad,) = torch.autograd.grad(terms["sid"], fake.x0)
    twin = noised()
    kernel, sample_weight = split_weight(weight, roles.process, twin.t)
    wanted = score_distillation(
        twin.x0,
        0.5 * twin.x_t,
        0.8 * twin.x_t,
        MASK,
        mu=0.7,
        weight=kernel,
        reduction="sum",
        detach_scores=detach,
        sample_weight=sample_weight,
    )
    assert_close(terms["sid"], wanted)
    assert_close(grad, torch.autograd.grad(wanted, twin.x0)[0])


def test_weights_of_time_by_hand() -> None:
    process, t = GaussianProcess(), noised().t
    low, high = alpha_bar = process.noise_schedule.alpha_bar(t).tolist()
    of = lambda weight: split_weight(weight, process, t)[1].tolist()  # type: ignore[union-attr] # noqa: E731
    assert of("snr") == pytest.approx([1.0, high / (1 - high) ** 2])
    assert of("kl") == pytest.approx([low / (1 - low), high / (1 - high)])
    assert of("kl_sigma2") == pytest.approx(alpha_bar)
    assert [split_weight(weight, process, t) for weight in ("l1", "none")] == [("l1", None), ("none", None)]


def test_weights_of_time_know_positions() -> None:
    rows = [[0.9, 0.8, 0.7], [0.5, 0.4, 0.3]]
    process = GaussianProcess.model_validate({"schedule": {"name": "per_position", "table": rows}})
    found = split_weight("kl_sigma2", process, torch.tensor([0.5, 1.0], dtype=torch.float64))[1]
    assert_close(found, torch.tensor(rows, dtype=torch.float64))


def test_the_critic_of_sid_denoises_generated_text() -> None:
    fake = noised()
    terms = Sid().critic_terms(LinearRoles(), fake, None)
    by_hand = [((0.8 * fake.x_t - fake.x0)[i][MASK[i]] ** 2).mean() for i in range(2)]
    assert_close(terms["denoising"], torch.stack(by_hand).mean())


def test_denoising_without_generated_positions_is_zero() -> None:
    x = torch.ones(2, 3, 4)
    assert denoising_mse(x, 2 * x, torch.tensor([[False] * 3, [True, False, False]])).tolist() == [0.0, 1.0]


def test_adversarial_terms() -> None:
    roles, fake, real = LinearRoles(), noised(0), noised(1)
    logit_fake, logit_real = fake.x_t.sum((1, 2)), real.x_t.sum((1, 2))
    bce = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(2), torch.zeros(2)
    critic = Adversarial().critic_terms(roles, fake, real)["adversarial"]
    assert_close(critic, (bce(logit_real, ones) + bce(logit_fake, zeros)) / 2)
    generator = Adversarial().generator_terms(roles, fake)["adversarial"]
    assert_close(generator, bce(logit_fake, ones))
    assert roles.calls == ["discriminator"] * 3


def test_an_undecided_head_costs_log_2() -> None:
    for real in (True, False):
        assert critic_loss(torch.zeros(1), real, "non_saturating").tolist() == pytest.approx([math.log(2)])
    sure = torch.tensor([100.0])
    assert critic_loss(sure, True, "non_saturating").tolist() == pytest.approx([0.0])
    assert critic_loss(sure, False, "non_saturating").tolist() == pytest.approx([100.0])


@pytest.mark.parametrize(
    ("loss", "on_real", "on_fake", "of_generator"),
    [
        ("hinge", [3.0, 0.5, 0.0], [0.0, 1.5, 3.0], [2.0, -0.5, -2.0]),
        ("least_squares", [9.0, 0.25, 1.0], [4.0, 0.25, 4.0], [4.5, 0.125, 0.5]),
    ],
)
def test_adversarial_losses_by_hand(
    loss: Any, on_real: list[float], on_fake: list[float], of_generator: list[float]
) -> None:
    logits = torch.tensor([-2.0, 0.5, 2.0])
    assert critic_loss(logits, True, loss).tolist() == on_real
    assert critic_loss(logits, False, loss).tolist() == on_fake
    assert generator_loss(logits, loss).tolist() == of_generator


@pytest.mark.parametrize("loss", get_args(Loss))
def test_losses_push_the_right_way_in_float32(loss: Any) -> None:
    """A real logit is pushed up; a generated one down by the critic and up by the generator."""
    logits = torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True)
    for value, sign in (
        (critic_loss(logits, True, loss), -1),
        (critic_loss(logits, False, loss), 1),
        (generator_loss(logits, loss), -1),
    ):
        assert value.dtype == torch.float32
        assert sign * float(torch.autograd.grad(value.sum(), logits)[0]) > 0


@settings(max_examples=20)
@given(st.floats(0.1, 9.0))
def test_the_best_logit_is_the_log_ratio(ratio: float) -> None:
    """Real and generated text of densities ratio and 1: binary cross-entropy is flat at log(ratio)."""
    logit = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    both = ratio * critic_loss(logit, True, "non_saturating") + critic_loss(logit, False, "non_saturating")
    assert abs(float(torch.autograd.grad(both.sum(), logit)[0])) < 1e-12
    assert Adversarial().logit_is_log_ratio
    assert not Adversarial(loss="hinge").logit_is_log_ratio


def test_a_logit_for_each_position_counts_where_text_is_generated() -> None:
    values = torch.tensor([[100.0, 1.0, 3.0], [100.0, 100.0, 5.0]])
    assert per_sample(values, MASK).tolist() == [2.0, 5.0]
    assert per_sample(values, torch.zeros_like(MASK)).tolist() == [0.0, 0.0]
    assert per_sample(values[:, 0], MASK).tolist() == [100.0, 100.0]


def test_penalties_by_hand() -> None:
    """r |D(x) - D(x + s n)|^2 with D(x) = sum of x and n zero at given positions."""
    draws = {"r1": torch.randn(2, 3, 4), "r2": torch.randn(2, 3, 4)}
    fake, real = (replace(noised(seed), noise=draws.__getitem__) for seed in (0, 1))
    terms = Adversarial(r1=2.0, r2=0.5, penalty_noise=0.3).critic_terms(LinearRoles(), fake, real)
    assert terms.keys() == {"adversarial", "r1", "r2"}
    for name, weight in (("r1", 2.0), ("r2", 0.5)):
        moved = (0.3 * draws[name] * MASK[..., None]).sum((1, 2))
        assert_close(terms[name], weight * moved.square().mean())


def test_a_state_without_noise_cannot_be_perturbed() -> None:
    with pytest.raises(ValueError, match="without a source of noise"):
        noised().perturbed("r1", 0.1)


def test_f_distill_weighs_by_the_ratio() -> None:
    """sum(x_t) as the logit: h by hand, in bins of a tenth of time, and bounded."""
    assert_close(density_ratio(torch.tensor([-50.0, 0.0, math.log(2.0), 50.0])), torch.tensor([0.1, 1.0, 2.0, 20.0]))
    h, t = torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([0.11, 0.19, 0.5, 1.0]).double()
    assert_close(normalised(h, t), torch.tensor([0.5, 1.5, 1.0, 1.0]))
    fake, roles = noised(), LinearRoles()
    ratio = density_ratio(fake.x_t.detach().sum((1, 2)))
    (grad,) = torch.autograd.grad(
        FDistill(divergence="forward_kl", normalise="none", weight="none").generator_terms(roles, fake)["f_distill"],
        fake.x0,
    )
    twin = noised()
    (plain,) = torch.autograd.grad(Dmd(weight="none").generator_terms(roles, twin)["dmd"], twin.x0)
    assert_close(grad, ratio[:, None, None] * plain)


def test_fisher_is_the_squared_gap() -> None:
    fake = noised()
    gap = 0.3 * fake.x_t
    wanted = torch.stack([gap[i][MASK[i]].square().mean() for i in range(2)]).mean()
    found = Fisher(weight="none").generator_terms(LinearRoles(), fake)["fisher"]
    assert_close(found, wanted)
    assert_close(torch.autograd.grad(found, fake.x0, retain_graph=True)[0], torch.autograd.grad(wanted, fake.x0)[0])


def test_moment_matching_pulls_the_critic_to_text_and_teacher() -> None:
    fake = noised()
    terms = MomentMatching().critic_terms(LinearRoles(), fake, None)
    assert_close(terms["denoising"], denoising_mse(0.8 * fake.x_t, fake.x0, MASK).mean())
    assert_close(terms["teacher"], denoising_mse(0.8 * fake.x_t, 0.5 * fake.x_t, MASK).mean())


@pytest.mark.parametrize("objective", [Dmd(), DiffInstruct(), FDistill(), MomentMatching()])
def test_detached_objectives_ask_for_no_graph(objective: Objective) -> None:
    graphs = []

    class Watched(LinearRoles):
        def _multiple(self, role: str, noised: Noised, factor: float, graph: bool) -> Prediction:
            graphs.append(graph)
            return super()._multiple(role, noised, factor, graph)

    objective.generator_terms(Watched(), noised())
    assert graphs == [False, False]


def test_regression_is_the_mean_square_over_generated_elements() -> None:
    fake = noised()
    target = fake.x0.detach() + torch.arange(fake.x0.numel()).view_as(fake.x0) / 10
    terms = OdeRegression().generator_terms(LinearRoles(), replace(fake, target=target))
    by_hand = [((fake.x0 - target)[i][MASK[i]] ** 2).mean() for i in range(2)]
    assert_close(terms["regression"], torch.stack(by_hand).mean())
    assert OdeRegression().critic_terms(LinearRoles(), fake, None) == {}


def test_what_the_objectives_need() -> None:
    assert OdeRegression.needs.roles == set()
    assert OdeRegression.needs.data == "teacher_samples"
    assert Sid.needs.roles == {"teacher", "fake_score"}
    assert Sid.needs.data == "none"
    assert Adversarial.needs.roles == {"discriminator"}
    assert Adversarial.needs.data == "real"
    assert Adversarial().spec()["head"] == {"name": "mean_pool"}
    assert FDistill.needs.roles == {"teacher", "fake_score", "discriminator"}
    assert FDistill.needs.log_ratio
