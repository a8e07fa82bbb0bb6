"""A process around a mean is the process around 0, seen from elsewhere; and tokens fall into the mean."""

import inspect
import itertools

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
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.spaces.embedding import EmbeddingSpace

M = torch.tensor([0.5, -2.0, 3.0, 0.0], dtype=torch.float64)
CENTRED, SHIFTED = GaussianProcess(), MeanShift().around(M)
TIME = st.floats(0.001, 1.0)
PAIR = st.tuples(TIME, TIME).map(sorted).filter(lambda pair: pair[1] - pair[0] > 1e-4)
few = settings(max_examples=30)


def state(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, X0, EPS = (state(2, 3, 4, seed=seed) for seed in range(3))


def at(value: float) -> Tensor:
    return torch.full((2,), value, dtype=torch.float64)


@few
@given(pair=PAIR)
def test_everything_moves_with_the_mean(pair: tuple[float, float]) -> None:
    s, t = (at(u) for u in pair)
    close = {"rtol": 1e-9, "atol": 1e-9}
    assert_close(SHIFTED.prior(EPS), EPS + M)
    assert_close(SHIFTED.q_sample(X0 + M, t, EPS), CENTRED.q_sample(X0, t, EPS) + M, **close)
    ours, theirs = SHIFTED.posterior(X + M, X0 + M, t, s), CENTRED.posterior(X, X0, t, s)
    assert_close(ours.mean, theirs.mean + M, **close)
    assert_close(ours.std, theirs.std)
    std = 0.5 * theirs.std
    assert_close(SHIFTED.ddim(X + M, X0 + M, t, s), CENTRED.ddim(X, X0, t, s) + M, **close)
    assert_close(SHIFTED.ddim(X + M, X0 + M, t, s, std, EPS), CENTRED.ddim(X, X0, t, s, std, EPS) + M, **close)


@pytest.mark.parametrize(("source", "to"), [*itertools.product(TARGETS, TARGETS)])
@few
@given(t=TIME)
def test_conversions_move_with_the_mean(source: Target, to: Target, t: float) -> None:
    """x0 is a place and moves; noise and score are differences of places and do not."""
    value = X0 + M if source == "x0" else X0
    ours = SHIFTED.convert(value, X + M, at(t), source, to)
    theirs = CENTRED.convert(X0, X, at(t), source, to)
    scale = 1 + float(theirs.abs().max())
    assert_close(ours, theirs + M if to == "x0" else theirs, rtol=1e-8, atol=1e-8 * scale)


@pytest.mark.parametrize("t", [0.05, 0.3, 0.7, 0.95])
def test_tweedie_for_a_finite_vocabulary(t: float) -> None:
    """E[x0 | x_t] is the softmax-weighted mean of the embeddings; the score of p(x_t) is found by autograd."""
    table, times = state(7, 4), at(t)[:1].expand(5)
    means = SHIFTED.q_sample(table, times[:1].expand(7), torch.zeros_like(table))
    sigma = SHIFTED.sigma(times[:1], table[:1])
    x_t = (means[:5] + sigma * state(5, 4, seed=2)).requires_grad_()
    log_likelihood = -(x_t[:, None] - means).square().sum(-1) / (2 * sigma**2)
    (score,) = torch.autograd.grad(log_likelihood.logsumexp(1).sum(), x_t)
    x0 = log_likelihood.softmax(1) @ table
    assert_close(SHIFTED.convert(score, x_t, times, "score", "x0"), x0, rtol=1e-8, atol=1e-8)
    assert_close(SHIFTED.convert(x0, x_t, times, "x0", "score"), score, rtol=1e-8, atol=1e-8)


def test_the_prior_is_where_the_process_ends() -> None:
    assert_close(SHIFTED.q_sample(X0, at(1.0), EPS), SHIFTED.prior(EPS), rtol=0, atol=0.01)


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_tokens_are_absorbed_as_often_as_they_should(rate: float) -> None:
    process = MeanShift(absorb_rate=rate).around(M)
    x, sigma = state(4, 2000, 4), torch.tensor([0.0, 0.3, 0.9, 1.0]).double()
    u = torch.rand(4, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    absorbed = (process.absorb(x, sigma, lambda: u) == M).all(-1)
    assert_close(absorbed.double().mean(1), rate * sigma, rtol=0, atol=0.05)
    kept = process.absorb(x, sigma, lambda: u)[~absorbed]
    assert torch.equal(kept, x[~absorbed])


def test_without_a_rate_nothing_is_drawn() -> None:
    def refuse() -> Tensor:
        raise AssertionError("nothing should be drawn")

    assert MeanShift(absorb_rate=0.0).absorb(X, at(0.5), refuse) is X
    assert GaussianProcess().absorb(X, at(0.5), refuse) is X


def test_absorbing_needs_a_mean() -> None:
    absorb = inspect.unwrap(MeanShift.absorb)
    with pytest.raises(ValueError, match="no mean"):
        absorb(MeanShift(), X, at(0.5), lambda: torch.zeros(2, 3))


class Echo(nn.Module):
    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, None]:
        return x, None


def test_a_denoiser_holds_the_mean() -> None:
    denoiser = Denoiser(EmbeddingSpace(7, 4), MeanShift(), Echo())
    mean = denoiser.space.mean_embed
    assert mean is not None
    assert denoiser.state_dict()["space.mean_embed"].shape == (4,)
    assert denoiser.process.mean is mean
    twin = Denoiser(denoiser.space, denoiser.process, Echo())  # a network that shares the space shares its mean
    assert twin.process.mean is mean
    assert "space.mean_embed" not in Denoiser(EmbeddingSpace(7, 4), GaussianProcess(), Echo()).state_dict()
    found = denoiser.predict(X.float(), at(0.5), None, to="eps")
    assert_close(found.value, denoiser.process.convert(X.float(), X.float(), at(0.5), "x0", "eps"))


def test_gradients_reach_the_mean_and_not_through_a_frozen_call() -> None:
    denoiser = Denoiser(EmbeddingSpace(7, 4), MeanShift(), Echo())
    mean = denoiser.space.mean_embed
    assert mean is not None
    denoiser.process.q_sample(X.float(), at(0.5), EPS.float()).sum().backward()
    alpha = GaussianProcess().alpha(at(0.5), X.float())
    assert mean.grad is not None
    assert_close(mean.grad, ((1 - alpha) * torch.ones_like(X.float())).sum((0, 1)))
    mean.grad = None
    x = X.float().requires_grad_()
    frozen(denoiser).predict(x, at(0.5), Condition(x.detach(), torch.ones(2, 3, dtype=torch.bool))).x0.sum().backward()
    assert mean.grad is None
