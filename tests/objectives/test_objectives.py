"""Objectives ask the roles for what they need and combine it as their docstrings say."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from dlkit.denoiser import Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.kernels.score_distillation import score_distillation
from dlkit.objectives._base import Noised
from dlkit.objectives._terms import denoising, logistic
from dlkit.objectives.adversarial import Adversarial
from dlkit.objectives.ode_regression import OdeRegression
from dlkit.objectives.sid import Sid, snr_weight

MASK = torch.tensor([[False, True, True], [False, False, True]])


@dataclass
class LinearRoles:
    """Scores that are multiples of their input; the calls are written down."""

    process: GaussianProcess = field(default_factory=GaussianProcess)
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
@pytest.mark.parametrize("weight", ["l1", "snr", "none"])
def test_sid_is_the_kernel_on_the_roles(weight: str, detach: bool) -> None:
    objective = Sid(mu=0.7, weight=weight, reduction="sum", detach_scores=detach)  # type: ignore[arg-type]
    roles, fake = LinearRoles(), noised()
    terms = objective.generator_terms(roles, fake)
    assert terms.keys() == {"sid"}
    assert roles.calls == ["teacher", "fake_score"]
    (grad,) = torch.autograd.grad(terms["sid"], fake.x0)
    twin = noised()
    wanted = score_distillation(
        twin.x0,
        0.5 * twin.x_t,
        0.8 * twin.x_t,
        MASK,
        mu=0.7,
        weight=objective.weight,
        reduction="sum",
        detach_scores=detach,
        snr_weight=snr_weight(roles, twin),
    )
    assert_close(terms["sid"], wanted)
    assert_close(grad, torch.autograd.grad(wanted, twin.x0)[0])


def test_snr_weight_is_bounded_and_natural_at_high_noise() -> None:
    roles, fake = LinearRoles(), noised()
    low, high = snr_weight(roles, fake).tolist()
    alpha_bar = float(roles.process.noise_schedule.alpha_bar(fake.t)[1])
    assert low == 1.0
    assert high == pytest.approx(alpha_bar / (1 - alpha_bar) ** 2)


def test_the_critic_of_sid_denoises_generated_text() -> None:
    fake = noised()
    terms = Sid().critic_terms(LinearRoles(), fake, None)
    by_hand = [((0.8 * fake.x_t - fake.x0)[i][MASK[i]] ** 2).mean() for i in range(2)]
    assert_close(terms["denoising"], torch.stack(by_hand).mean())


def test_denoising_without_generated_positions_is_zero() -> None:
    x = torch.ones(2, 3, 4)
    assert denoising(x, 2 * x, torch.tensor([[False] * 3, [True, False, False]])).tolist() == [0.0, 1.0]


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
        assert float(logistic(torch.zeros(3), real)) == pytest.approx(math.log(2))
    assert float(logistic(torch.tensor([100.0]), real=True)) == pytest.approx(0.0)
    assert float(logistic(torch.tensor([100.0]), real=False)) == pytest.approx(100.0)


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
    assert Adversarial.needs.roles == {"fake_score", "discriminator"}
    assert Adversarial.needs.data == "real"
    assert Adversarial().spec()["head"] == {"name": "mean_pool"}
