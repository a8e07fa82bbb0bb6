"""The Gaussian process against Bayes' rule, in float64; tests/diffusion/test_tweedie.py has its conversions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess

PROCESSES = [
    GaussianProcess(),
    GaussianProcess(schedule={"name": "cosine", "steps": 100}),  # type: ignore[arg-type]
]
TIME = st.floats(0.001, 1.0)
PAIR = st.tuples(TIME, TIME).map(sorted).filter(lambda pair: pair[1] - pair[0] > 1e-4)
few = settings(max_examples=30)
process_of = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.schedule.registered_name)


def state(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@process_of
@few
@given(pair=PAIR)
def test_posterior_is_bayes_rule(process: GaussianProcess, pair: tuple[float, float]) -> None:
    """q(x_s | x_t, x0) ~ q(x_t | x_s) q(x_s | x0): precisions add, and means are weighted by them."""
    s, t = pair
    x_t, x0 = state(3, 2), state(3, 2, seed=1)
    before, now = (float(process.noise_schedule.alpha_bar(at(u))) for u in (s, t))
    step = now / before  # x_t = sqrt(step) x_s + sqrt(1 - step) noise
    precision = 1 / (1 - before) + step / (1 - step)
    mean = (before**0.5 * x0 / (1 - before) + step**0.5 * x_t / (1 - step)) / precision
    posterior = process.posterior(x_t, x0, at(t, t, t), at(s, s, s))
    assert_close(posterior.mean, mean, rtol=1e-8, atol=1e-9)
    assert_close(posterior.std, torch.full((3, 1), precision**-0.5, dtype=torch.float64), rtol=1e-8, atol=1e-10)
    assert_close(posterior.std_large, torch.full((3, 1), (1 - step) ** 0.5, dtype=torch.float64), rtol=1e-8, atol=1e-10)


@process_of
@few
@given(pair=PAIR)
def test_posterior_composed_with_the_forward_process_is_the_marginal(
    process: GaussianProcess, pair: tuple[float, float]
) -> None:
    """Drawing x_t from q(x_t | x0), then x_s from the posterior, gives mean alpha_s x0 and variance sigma_s^2."""
    s, t = (at(u) for u in pair)
    zero, one = at(0.0)[:, None], at(1.0)[:, None]
    on_x_t, on_x0 = process.posterior(one, zero, t, s).mean, process.posterior(zero, one, t, s).mean
    std = process.posterior(one, one, t, s).std
    alpha_t, sigma_t = process.alpha(t, one), process.sigma(t, one)
    assert_close(on_x_t * alpha_t + on_x0, process.alpha(s, one), rtol=1e-9, atol=1e-10)
    assert_close((on_x_t * sigma_t).square() + std.square(), process.sigma(s, one).square(), rtol=1e-9, atol=1e-10)


@process_of
@few
@given(t=TIME)
def test_posterior_at_zero_is_the_clean_state(process: GaussianProcess, t: float) -> None:
    x_t, x0 = state(1, 4), state(1, 4, seed=1)
    posterior = process.posterior(x_t, x0, at(t), at(0.0))
    assert_close(posterior.mean, x0, rtol=0, atol=1e-10)
    assert float(posterior.std) < 1e-7


@process_of
@few
@given(pair=PAIR)
def test_ddim_with_a_known_clean_state_stays_on_its_path(process: GaussianProcess, pair: tuple[float, float]) -> None:
    s, t = (at(u) for u in pair)
    x0, eps = state(1, 6), state(1, 6, seed=1)
    x_s = process.ddim(process.q_sample(x0, t, eps), x0, t, s)
    assert_close(x_s, process.q_sample(x0, s, eps), rtol=1e-9, atol=1e-9)
    assert_close(process.ddim(x_s, x0, s, at(0.0)), x0, rtol=1e-6, atol=1e-6)


def test_partial_noising_keeps_the_source() -> None:
    x0, eps = state(2, 3, 4), state(2, 3, 4, seed=1)
    mask = torch.tensor([[False, True, True], [False, False, True]])
    process, t = GaussianProcess(), at(0.3, 1.0)
    x_t = process.q_sample(x0, t, eps, Condition(x0, mask))
    assert torch.equal(x_t[~mask], x0[~mask])
    assert torch.equal(x_t[mask], process.q_sample(x0, t, eps)[mask])


def test_sigma_0_is_the_noise_of_diffuseqs_embeddings() -> None:
    assert GaussianProcess().sigma_0 == pytest.approx(0.121001, abs=1e-6)


def test_coefficients_take_the_dtype_of_the_state() -> None:
    process, t = GaussianProcess(), at(0.5, 0.1)
    for dtype in (torch.float32, torch.bfloat16):
        x = state(2, 3, 4).to(dtype)
        assert process.alpha(t, x).shape == (2, 1, 1)
        assert process.q_sample(x, t, x).dtype == dtype
