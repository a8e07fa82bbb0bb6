"""Guidance where everything is known: Gaussian texts that lean on a Gaussian source, and exact denoisers of both."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from dlkit.denoiser import Denoiser, frozen
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.parameterization import TARGETS, Target
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.guidance import Guided, guided
from dlkit.randomness import Stream
from dlkit.spaces.embedding import EmbeddingSpace
from gaussian_lab import Gaussian, N, teacher_of
from noise_levels import Coefficients, with_schedule

PROCESS = GaussianProcess()
NULL, BATCH = 2, 5
MASK = torch.tensor([[False, True]]).expand(BATCH, 2)  # a source, a target


class World(nn.Module):
    """A network that is right: texts are N(B c + b, S) for a source c ~ N(0, I), so N(b, S + B B^T) without one.

    It puts out what ``prediction`` says.
    """

    feature_dim = 3

    def __init__(self, seed: int, null: Tensor, prediction: Target = "x0") -> None:
        super().__init__()
        self.prediction: Target = prediction
        rest = teacher_of(seed)
        self.lean = Stream(seed, "lean").normal(torch.arange(1), N, N)[0].double()
        self.null, self.rest, self.calls = null, rest, 0
        self.free = Gaussian(rest.mean, rest.covariance + self.lean @ self.lean.T)
        self.unused = nn.Parameter(torch.ones((), dtype=torch.float64))

    def told(self, source: Tensor) -> Gaussian:
        return Gaussian(self.rest.mean + self.lean @ source, self.rest.covariance)

    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor | None]:
        self.calls += 1
        t = time / 1000 + PROCESS.noise_schedule.t_min  # undoes the network's clock
        rows = [self.free if torch.equal(c, self.null) else self.told(c) for c in x[:, 0]]
        x0 = torch.cat([rows[k].denoise(PROCESS, x[k : k + 1, 1], t[k : k + 1]) for k in range(len(x))])
        output = PROCESS.convert(x0, x[:, 1], t, "x0", self.prediction)
        features = None if taps is None else x[:, :, :3]
        return self.unused * torch.stack((x[:, 0], output), dim=1), features


def world(seed: int = 0, prediction: Target = "x0") -> Denoiser:
    space = EmbeddingSpace(4, N).double()
    return Denoiser(space, PROCESS, World(seed, space.table[NULL].detach(), prediction), prediction)


def states(seed: int, index: int) -> tuple[Tensor, Tensor, Condition]:
    """x_t, times on the schedule's grid, and sources."""
    draws = Stream(seed, "states").normal(torch.arange(BATCH), 2, 2, N).double()
    return draws[:, 0], torch.full((BATCH,), (index + 1) / 2000, dtype=torch.float64), Condition(draws[:, 1], MASK)


def guided_score(network: World, w: float, x_t: Tensor, t: Tensor, cond: Condition) -> Tensor:
    """The gradient of log p_t(x) + w (log p_t(x | c) - log p_t(x))."""
    x = x_t[:, 1].clone().requires_grad_()
    free = network.free.log_density(PROCESS, x, t)
    told = [network.told(c).log_density(PROCESS, x[k : k + 1], t[:1]) for k, c in enumerate(cond.anchor[:, 0])]
    (score,) = torch.autograd.grad(((1 - w) * free + w * torch.cat(told)).sum(), x)
    return score


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(20, 1950), st.floats(-2.0, 6.0), st.sampled_from(TARGETS))
def test_guided_predictions_are_those_of_the_guided_density(seed: int, index: int, w: float, said: Target) -> None:
    """In every parameterisation, whichever the network puts out."""
    denoiser = world(seed, said)
    x_t, t, cond = states(seed, index)
    score = guided_score(denoiser.backbone, w, x_t, t, cond)  # type: ignore[arg-type]
    level = Coefficients.of(PROCESS, t, score)
    wanted = level.everything((x_t[:, 1] + level.sigma**2 * score) / level.alpha, -level.sigma * score)
    scale = max(1.0, abs(w))
    for to, value in wanted.items():
        found = Guided(denoiser, w, NULL).predict(x_t, t, cond, to=to)
        size = float(value.abs().max())
        assert_close(found.value[:, 1], value, rtol=1e-8, atol=1e-8 * scale * size)
        assert_close(found.x0[:, 1], wanted["x0"], rtol=1e-8, atol=1e-8 * scale * float(wanted["x0"].abs().max()))


@pytest.mark.parametrize(("w", "source"), [(0.0, False), (1.0, True)])
def test_its_ends_are_the_two_predictions(w: float, source: bool) -> None:
    denoiser = world()
    x_t, t, cond = states(0, 600)
    seen = cond if source else cond.dropped(denoiser.space.table[NULL])
    found, wanted = Guided(denoiser, w, NULL).predict(x_t, t, cond).x0, denoiser.predict(x_t, t, seen).x0
    assert_close(found[:, 1], wanted[:, 1])


def test_no_guidance_is_the_network_itself() -> None:
    """Called once; guided, it is called twice."""
    denoiser = world()
    x_t, t, cond = states(0, 600)
    assert guided(denoiser, 1.0, NULL) is denoiser
    denoiser.predict(x_t, t, cond)
    assert denoiser.backbone.calls == 1
    guided(denoiser, 2.0, NULL).predict(x_t, t, cond)
    assert denoiser.backbone.calls == 3


def test_both_calls_see_states_of_an_exploding_variance_scaled_and_sources_as_they_are() -> None:
    process, seen = with_schedule("karras"), []
    denoiser = Denoiser(EmbeddingSpace(4, N).double(), process, World(0, torch.zeros(N)))
    denoiser.backbone.forward = lambda x, time, taps=None: (seen.append(x) or x, None)  # type: ignore[func-returns-value]
    x_t, t, cond = states(0, 600)
    Guided(denoiser, 2.0, NULL).predict(x_t, t, cond)
    scaled = x_t[:, 1] / (1 + process.noise_schedule.sigma(t)[:, None] ** 2).sqrt()
    for given_, x in zip((cond.anchor[:, 0], denoiser.space.table[NULL].expand(BATCH, N)), seen, strict=True):
        assert torch.equal(x[:, 0], given_)
        assert_close(x[:, 1], scaled)


def test_logits_read_the_guided_text_and_features_come_from_the_call_with_the_source() -> None:
    denoiser = world()
    x_t, t, cond = states(0, 600)
    found = Guided(denoiser, 2.5, NULL).predict(x_t, t, cond, want=frozenset({"x0", "logits", "features"}))
    assert_close(found.logits, denoiser.space.logits(found.x0))
    assert found.features is not None
    assert torch.equal(found.features[:, 0], cond.anchor[:, 0, :3])


def test_frozen_it_leaves_no_gradient_but_at_its_input() -> None:
    denoiser = world()
    x_t, t, cond = states(0, 600)
    x_t.requires_grad_()
    frozen(Guided(denoiser, 2.0, NULL)).predict(x_t, t, cond).x0.sum().backward()
    assert {parameter.grad for parameter in denoiser.parameters()} == {None}
    assert x_t.grad is not None
    assert float(x_t.grad[:, 1].abs().min()) > 0


def test_trained_it_sends_gradients_through_both_calls() -> None:
    """d/du of u-scaled predictions: that of the sum of both, w and 1 - w."""
    denoiser = world()
    x_t, t, cond = states(0, 600)
    x0 = Guided(denoiser, 3.0, NULL).predict(x_t, t, cond).x0[:, 1]
    (gradient,) = torch.autograd.grad(x0.sum(), denoiser.backbone.unused)
    assert_close(gradient, x0.sum().detach())  # it is linear in u, at u = 1


def test_without_a_condition_there_is_nothing_to_lead_by() -> None:
    x_t, t, _ = states(0, 600)
    with pytest.raises(ValueError, match="guidance needs a condition"):
        Guided(world(), 2.0, NULL).predict(x_t, t, None)


def test_the_difference_is_magnified_in_float32() -> None:
    """2 and 2 + 2^-6 are neighbours in bfloat16; what lies 1.25 times as far is none of its numbers."""
    denoiser = Guided(world(), 1.25, NULL)
    free, told = (torch.tensor([[[value]]]).bfloat16() for value in (2.0, 2.0 + 2**-6))
    assert float(denoiser._led(free, told)) == 2.0 + 1.25 * 2**-6


def test_a_condition_loses_its_source_in_some_samples() -> None:
    _, _, cond = states(0, 600)
    null, which = torch.arange(N).double(), torch.tensor([True, False, True, False, False])
    dropped = cond.dropped(null, which)
    assert torch.equal(dropped.anchor[which], null.expand(2, 2, N))
    assert torch.equal(dropped.anchor[~which], cond.anchor[~which])
    assert dropped.mask is cond.mask
    assert torch.equal(cond.dropped(null).anchor, null.expand(BATCH, 2, N))
