"""The Gaussian process under every registered schedule: Bayes' rule, the ODE, prior and input."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit import schedules
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.recipe import Recipe
from dlkit.schedules._base import DiscreteSchedule, VarianceExploding, VariancePreserving
from dlkit.spaces.embedding import sigma_0_noised
from schedules.every import NAMES, at, schedule

D = 3
every = pytest.mark.parametrize("name", NAMES)
exploding = pytest.mark.parametrize("name", ["geometric", "karras"])
few = settings(max_examples=20)
TIME = st.floats(1e-3, 1.0)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def process_with(data: st.DataObject, name: str) -> tuple[GaussianProcess, int]:
    """A process and the length of its texts."""
    part = data.draw(schedule(name))
    return GaussianProcess.model_validate({"schedule": part}), part.positions or 2


def by_default(name: str) -> GaussianProcess:
    return GaussianProcess.model_validate({"schedule": {"name": name, **schedules.get(name).trial}})


@every
@few
@given(data=st.data(), pair=st.tuples(TIME, TIME).map(sorted))
def test_posterior_is_bayes_rule(name: str, data: st.DataObject, pair: list[float]) -> None:
    """q(x_s | x_t, x0) ~ q(x_t | x_s) q(x_s | x0): precisions add, and means are weighted by them."""
    process, length = process_with(data, name)
    s, t = (at(u) for u in pair)
    x_t, x0 = draws(1, length, D), draws(1, length, D, seed=1)
    alpha_s, alpha_t, sigma_s, sigma_t = (f(u, x0) for f in (process.alpha, process.sigma) for u in (s, t))
    ratio = alpha_t / alpha_s
    variance = sigma_t.square() - (ratio * sigma_s).square()
    assume((variance > 1e-6 * sigma_t.square()).all() and (sigma_s > 0).all())
    precision = 1 / sigma_s.square() + ratio.square() / variance
    mean = (alpha_s * x0 / sigma_s.square() + ratio * x_t / variance) / precision
    posterior = process.posterior(x_t, x0, t, s)
    assert_close(posterior.mean, mean, rtol=1e-7, atol=1e-7)
    assert_close(posterior.std, precision.rsqrt(), rtol=1e-7, atol=1e-12)
    assert_close(posterior.std_large, variance.sqrt(), rtol=1e-7, atol=1e-12)


@every
@few
@given(data=st.data(), pair=st.tuples(TIME, TIME).map(sorted).filter(lambda pair: pair[0] < pair[1]))
def test_the_posterior_after_the_forward_process_is_the_marginal(
    name: str, data: st.DataObject, pair: list[float]
) -> None:
    """Drawing x_t from q(x_t | x0), then x_s from the posterior, gives mean alpha_s x0 and variance sigma_s^2."""
    process, length = process_with(data, name)
    s, t = (at(u) for u in pair)
    zero, one = torch.zeros(1, length, 1).double(), torch.ones(1, length, 1).double()
    on_x_t, on_x0 = process.posterior(one, zero, t, s).mean, process.posterior(zero, one, t, s).mean
    variance = (on_x_t * process.sigma(t, one)).square() + process.posterior(one, one, t, s).std.square()
    assert_close(on_x_t * process.alpha(t, one) + on_x0, process.alpha(s, one) * one, rtol=1e-8, atol=1e-8)
    assert_close(variance, process.sigma(s, one).square() * one, rtol=1e-8, atol=1e-12)


@every
@few
@given(data=st.data(), pair=st.tuples(TIME, TIME))
def test_ddim_follows_the_noise(name: str, data: st.DataObject, pair: tuple[float, float]) -> None:
    """With the true x0 it leads from x_t to the x_s of the same noise, up or down."""
    process, length = process_with(data, name)
    t, s = (at(u) for u in pair)
    x0, eps = draws(1, length, D), draws(1, length, D, seed=1)
    assume((process.sigma(t, x0) > 1e-6).all())
    x_s = process.ddim(process.q_sample(x0, t, eps), x0, t, s)
    wanted = process.q_sample(x0, s, eps)
    assert_close(x_s, wanted, rtol=1e-7, atol=1e-7 * float(wanted.abs().max()))


@every
def test_the_ode_leads_from_the_prior_to_the_data(name: str) -> None:
    """For data N(m, v) the ODE's solution is affine: x at the end is m + sqrt(v) times the start in its own units."""
    process = by_default(name)
    if name == "per_position":  # with as many steps as the others
        rows = [[math.exp(-rate * (i / 500) ** 2) for rate in (3.0, 8.0)] for i in range(1, 501)]
        process = GaussianProcess.model_validate({"schedule": {"name": name, "table": rows}})
    cleaner: dict[str, dict[str, float]] = {  # their last step would be from much noise
        "learned_gamma": {"gamma_0": -12.0},
        "token_accuracy": {"vocab_size": 50, "lowest": 1e-5},
    }
    if name in cleaner:
        process = GaussianProcess.model_validate({"schedule": {"name": name, **cleaner[name]}})
    part, mean, variance = process.noise_schedule, 0.7, 0.25
    z = draws(4, part.positions or 2, D)
    x = process.prior(z)
    alpha, sigma = process.alpha(at(1.0), x[:1]), process.sigma(at(1.0), x[:1])
    wanted = mean + variance**0.5 * (x - alpha * mean) / (alpha.square() * variance + sigma.square()).sqrt()
    calls = min(part.steps, 1000) if isinstance(part, DiscreteSchedule) else 500
    for now, to in pairwise([*part.even(calls), 0.0]):
        t, s = at(now).expand(4), at(to).expand(4)
        alpha, sigma = process.alpha(t, x), process.sigma(t, x)
        gain = alpha * variance / (alpha.square() * variance + sigma.square())
        x = process.ddim(x, mean + gain * (x - alpha * mean), t, s)
    assert_close(x, wanted, rtol=0, atol=0.06)


@exploding
@few
@given(data=st.data(), t=st.floats(0.3, 1.0))
def test_an_exploding_variance_is_scaled(name: str, data: st.DataObject, t: float) -> None:
    """The prior has the standard deviation sigma(t), and what the network sees of unit data that of 1."""
    process, _ = process_with(data, name)
    z, times = draws(50, 20, D), at(t).expand(50)
    sigma = process.sigma(times, z)
    assert_close(process.prior(z, t), sigma * z)
    assert_close(process.prior(z), process.noise_schedule.sigma(at(1.0)) * z)
    x_t = process.q_sample(draws(50, 20, D, seed=1), times, z)
    seen = process.network_input(x_t, times)
    assert_close(seen, x_t / (1 + sigma.square()).sqrt())
    assert float(seen.std()) == pytest.approx(1.0, abs=0.06)


@exploding
def test_given_positions_are_not_scaled(name: str) -> None:
    process, x, t = by_default(name), draws(2, 4, D), at(0.6, 1.0)
    cond = Condition(draws(2, 4, D, seed=1), torch.arange(4).expand(2, 4) >= 2)
    seen = process.network_input(cond.apply(x), t, cond)
    assert torch.equal(seen[:, :2], cond.anchor[:, :2])
    assert torch.equal(seen[:, 2:], process.network_input(x, t)[:, 2:])


@pytest.mark.parametrize("name", sorted({*NAMES} - {"geometric", "karras"}))
def test_other_states_are_left_as_they_are(name: str) -> None:
    process, z = by_default(name), draws(2, 24, D)
    assert not isinstance(process.noise_schedule, VarianceExploding)
    if isinstance(process.noise_schedule, VariancePreserving):
        assert process.prior(z) is process.prior(z, 0.5) is z
    else:  # as large as the state of a text of unit variance
        schedule = process.noise_schedule
        size = torch.hypot(schedule.alpha(at(0.5)), schedule.sigma(at(0.5)))
        assert_close(process.prior(z, 0.5), size * z)
        assert_close(process.prior(z), z, atol=1e-4, rtol=0.0)
    assert process.network_input(z, at(0.5, 0.6)) is z


@exploding
def test_a_learned_mean_needs_texts_that_fade(name: str) -> None:
    with pytest.raises(
        UserError, match=f"schedule '{name}' never lets texts fade into a mean; use the process gaussian"
    ):
        Recipe.from_dict({"model": {"process": {"name": "mean_shift", "schedule": name}}})


def test_absorption_knows_positions() -> None:
    rows = [[0.9 - 0.2 * i - 0.1 * n for n in range(3)] for i in range(3)]
    process = MeanShift.model_validate({"schedule": {"name": "per_position", "table": rows}, "absorb_rate": 1.0})
    shifted = process.around(torch.full((D,), 9.0).double())
    sigma, u = process.noise_schedule.sigma(at(0.6, 1.0)), torch.tensor([[0.5, 0.7, 0.8], [0.8, 0.99, 0.1]]).double()
    gone = (shifted.absorb(draws(2, 3, D), sigma, lambda: u) == 9.0).all(-1)
    assert torch.equal(gone, u < sigma)


def test_the_noise_of_clean_text_knows_positions() -> None:
    process, x = by_default("per_position"), draws(2, 24, D)
    lowest = process.noise_schedule.sigma(at(process.noise_schedule.t_min))[0]
    assert_close(sigma_0_noised(torch.zeros_like(x), process.sigma_0, x), lowest[:, None] * x)


def test_a_table_of_another_length_is_refused() -> None:
    part = from_spec(schedules.registry, {"name": "per_position", **schedules.get("per_position").trial})
    model = {"seq_len": 16, "process": {"name": "gaussian", "schedule": part.spec()}}
    with pytest.raises(UserError, match="seq_len=16 is not the 24 positions of the schedule"):
        Recipe.from_dict({"model": model})
