"""Samplers with a denoiser that is exact: they must find the data, in the promised number of calls."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dlkit import samplers
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.randomness import Stream
from dlkit.samplers._base import Sampler
from dlkit.spaces.embedding import EmbeddingSpace

B, L, D = 16, 8, 16
STREAM = Stream(0, "samplers")


class TwoPoints(nn.Module):
    """E[x0 | x_t] where every coordinate is -1 or 1 with equal chance: tanh(alpha x_t / sigma^2)."""

    def __init__(self, process: GaussianProcess) -> None:
        super().__init__()
        self.process, self.times = process, []

    def forward(self, x: Tensor, time: Tensor, tap: int | None = None) -> tuple[Tensor, None]:
        steps = self.process.noise_schedule.steps  # type: ignore[attr-defined]
        t = time / 1000 + 1 / steps  # undoes the network's clock
        self.times.append(t)
        return torch.tanh(self.process.alpha(t, x) * x / self.process.sigma(t, x).square()), None


def oracle() -> Denoiser:
    process = GaussianProcess()
    torch.manual_seed(0)
    space = EmbeddingSpace(30, D)
    with torch.no_grad():
        space.table.sign_()  # embeddings from the same set as the data
    return Denoiser(space, process, TwoPoints(process))


def condition() -> Condition:
    mask = torch.arange(L).expand(B, L) >= torch.arange(B)[:, None] % (L - 1)
    return Condition(torch.full((B, L, D), 0.3), mask)


def noise(k: int) -> Tensor:
    return STREAM.at(k).normal(torch.arange(B), L, D)


def recovery(x: Tensor, cond: Condition) -> float:
    """Share of generated coordinates within .1 of a data point."""
    return float(((x[cond.mask].abs() - 1).abs() < 0.1).float().mean())


@pytest.mark.parametrize(
    ("sampler", "least"),
    [
        ({"name": "ddim", "steps": 100}, 0.98),
        ({"name": "ddim", "steps": 20}, 0.95),
        ({"name": "ancestral", "steps": 100}, 0.98),
        ({"name": "ancestral", "steps": 100, "variance": "small"}, 0.98),
    ],
)
def test_an_exact_denoiser_finds_the_data(sampler: dict[str, Any], least: float) -> None:
    cond = condition()
    x = from_spec(samplers.registry, sampler).sample(oracle(), cond, noise)
    assert recovery(x, cond) >= least
    assert abs(float(x[cond.mask].mean())) < 0.1  # both points are found equally often


def test_noise_itself_is_not_data() -> None:
    assert recovery(noise(0), condition()) < 0.15


EVERY = [
    {"name": "ddim", "steps": 7},
    {"name": "ddim", "steps": 1},
    {"name": "ddim", "steps": 5, "rounding": True},
    {"name": "ancestral", "steps": 6},
    {"name": "ancestral", "steps": 4, "rounding": True},
    {"name": "one_step"},
    {"name": "renoise", "steps": 3},
    {"name": "renoise", "steps": 1, "t_init": 0.5},
]


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_calls_times_and_anchor(spec: dict[str, Any]) -> None:
    sampler: Sampler = from_spec(samplers.registry, spec)
    denoiser, cond, seen = oracle(), condition(), []
    x = sampler.sample(denoiser, cond, noise, lambda *call: seen.append(call))
    assert torch.equal(x[~cond.mask], cond.anchor[~cond.mask])
    assert [k for k, *_ in seen] == list(range(sampler.steps))
    calls = denoiser.backbone.times
    assert len(calls) == sampler.steps
    assert_close(torch.stack(calls)[:, 0], torch.tensor([t for _, t, _, _ in seen]).double())
    assert torch.equal(seen[0][2][cond.mask], noise(0)[cond.mask])
    assert torch.equal(seen[-1][3][cond.mask], x[cond.mask])
    if spec.get("rounding"):
        rows = {tuple(row) for row in denoiser.space.table.tolist()}
        for *_, x0 in seen:
            assert {tuple(row) for row in x0.flatten(0, 1).tolist()} <= rows


def times_of(sampler: Sampler) -> list[float]:
    seen: list[float] = []
    sampler.sample(oracle(), condition(), noise, lambda k, t, x_t, x0: seen.append(t))
    return seen


def test_the_times_of_each_sampler() -> None:
    make = lambda spec: from_spec(samplers.registry, spec)  # noqa: E731
    assert times_of(make("one_step")) == [0.7455]
    assert times_of(make({"name": "one_step", "t_init": 0.5})) == [0.5]
    assert times_of(make({"name": "renoise", "steps": 4, "t_init": 0.8})) == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert times_of(make({"name": "ddim", "steps": 3}))[::2] == [1.0, 0.0005]
    assert times_of(make({"name": "ddim", "steps": 1})) == [1.0]


def test_one_step_is_the_network_on_pure_noise() -> None:
    denoiser, cond = oracle(), condition()
    x = from_spec(samplers.registry, "one_step").sample(denoiser, cond, noise)
    wanted = denoiser.predict(noise(0), torch.full((B,), 0.7455, dtype=torch.float64), cond).x0
    assert_close(x[cond.mask], wanted[cond.mask])


def test_renoise_begins_with_one_step_and_draws_fresh_noise() -> None:
    denoiser, cond, draws = oracle(), condition(), []
    first: list[Tensor] = []

    def recorded(k: int) -> Tensor:
        draws.append(k)
        return noise(k)

    renoise = from_spec(samplers.registry, {"name": "renoise", "steps": 3})
    renoise.sample(denoiser, cond, recorded, lambda k, t, x_t, x0: first.append(x0))
    assert draws == [0, 1, 2]
    assert torch.equal(first[0], from_spec(samplers.registry, "one_step").sample(denoiser, cond, noise))


def test_deterministic_samplers_draw_once() -> None:
    draws: list[int] = []

    def recorded(k: int) -> Tensor:
        draws.append(k)
        return noise(k)

    from_spec(samplers.registry, {"name": "ddim", "steps": 4}).sample(oracle(), condition(), recorded)
    assert draws == [0]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"name": "ddim", "steps": 0}, "steps"),
        ({"name": "one_step", "steps": 2}, "steps"),
        ({"name": "renoise", "t_init": 0.0}, "t_init"),
        ({"name": "ancestral", "variance": "huge"}, "variance"),
        ("dddim", "did you mean 'ddim'"),
    ],
)
def test_mistakes(spec: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        from_spec(samplers.registry, spec)
