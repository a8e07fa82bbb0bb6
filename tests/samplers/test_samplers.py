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
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.randomness import Stream
from dlkit.samplers._base import Sampler, Step
from dlkit.spaces.embedding import EmbeddingSpace

B, L, D = 16, 8, 16
STREAM = Stream(0, "samplers")


class TwoPoints(nn.Module):
    """E[x0 | x_t] where every coordinate is -1 or 1 with equal chance: tanh(alpha x_t / sigma^2)."""

    def __init__(self, process: GaussianProcess) -> None:
        super().__init__()
        self.process, self.times = process, []

    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, None]:
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


def condition(size: int = B) -> Condition:
    mask = torch.arange(L).expand(size, L) >= torch.arange(size)[:, None] % (L - 1)
    return Condition(torch.full((size, L, D), 0.3), mask)


def noise(k: int, size: int = B) -> Tensor:
    return STREAM.at(k).normal(torch.arange(size), L, D)


def recovery(x: Tensor, cond: Condition) -> float:
    """Share of generated coordinates within .1 of a data point."""
    return float(((x[cond.mask].abs() - 1).abs() < 0.1).float().mean())


@pytest.mark.parametrize(
    ("sampler", "least"),
    [
        ({"name": "ddim", "steps": 10}, 0.99),
        ({"name": "ddim", "steps": 10, "eta": 0.5}, 0.98),
        ({"name": "ddim", "grid": "ddim10"}, 0.99),
        ({"name": "dpm_solver_pp_2m", "steps": 10}, 0.99),
        ({"name": "dpm_solver_pp_2m", "grid": "4,6,10"}, 0.99),
        ({"name": "ancestral", "steps": 100}, 0.98),
        ({"name": "ancestral", "steps": 100, "variance": "small"}, 0.98),
        ({"name": "ancestral", "grid": "ddim100"}, 0.98),
    ],
    ids=str,
)
def test_an_exact_denoiser_finds_the_data(sampler: dict[str, Any], least: float) -> None:
    cond, draw = condition(128), lambda k: noise(k, 128)
    x = from_spec(samplers.registry, sampler).sample(oracle(), cond, draw)
    assert recovery(x, cond) >= least
    assert abs(float(x[cond.mask].mean())) < 0.05  # both points are found equally often


@pytest.mark.parametrize("steps", [10, 20, 100])
def test_the_published_few_step_sampler_finds_no_more_than_noise_does(steps: int) -> None:
    cond, draw = condition(128), lambda k: noise(k, 128)
    x = from_spec(samplers.registry, {"name": "ddim_legacy", "steps": steps}).sample(oracle(), cond, draw)
    assert recovery(x, cond) == pytest.approx(0.1, abs=0.02)
    assert recovery(draw(0), cond) == pytest.approx(0.1, abs=0.02)


EVERY = [
    {"name": "ddim", "steps": 7},
    {"name": "ddim", "steps": 1},
    {"name": "ddim", "steps": 5, "rounding": True},
    {"name": "ancestral", "steps": 6},
    {"name": "ancestral", "steps": 4, "rounding": True},
    {"name": "ancestral", "steps": 6, "noise_bound": 0.5},
    {"name": "ancestral", "grid": "2,0,3"},
    {"name": "ddim", "grid": "ddim8", "eta": 1.0},
    {"name": "dpm_solver_pp_2m", "steps": 5},
    {"name": "dpm_solver_pp_2m", "steps": 4, "rounding": True},
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
    assert_close(torch.stack(calls)[:, 0], torch.tensor([t for _, t, _, _ in seen]))
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
    assert times_of(make({"name": "ddim", "grid": "nested", "steps": 4})) == [1.0, 1001 / 2000, 501 / 2000, 1 / 2000]
    assert times_of(make({"name": "ddim", "grid": "ddim4"})) == [1501 / 2000, 1001 / 2000, 501 / 2000, 1 / 2000]
    assert times_of(make({"name": "ddim_legacy", "steps": 3}))[-1] == (1999 - 3 * 666 + 1) / 2000
    assert len(times_of(make({"name": "ddim_legacy", "gap": 7}))) == 286


class KarrasTwoPoints(nn.Module):
    """The same where alpha = 1, from x_t / sqrt(1 + sigma^2) and log(sigma) / 4."""

    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, None]:
        sigma2 = torch.exp(8.0 * time)[:, None, None].float()
        return torch.tanh(x * (1 + sigma2).sqrt() / sigma2), None


def karras_oracle() -> Denoiser:
    process = GaussianProcess.model_validate({"schedule": "karras"})
    return Denoiser(EmbeddingSpace(30, D), process, KarrasTwoPoints())


@pytest.mark.parametrize("name", ["ddim", "dpm_solver_pp_2m", "ancestral"])
def test_samplers_find_the_data_where_the_variance_explodes(name: str) -> None:
    spec = {"name": name, "steps": 18, **({"variance": "small"} if name == "ancestral" else {})}
    x = from_spec(samplers.registry, spec).sample(karras_oracle(), condition(), noise)
    assert recovery(x, condition()) > 0.99


def test_a_student_is_never_asked_below_the_lowest_noise() -> None:
    """Karras' t_min is .22; its runs start from sigma(t) z."""
    seen: list[tuple[float, Tensor]] = []
    sampler = from_spec(samplers.registry, {"name": "renoise", "steps": 4, "t_init": 0.8})
    sampler.sample(karras_oracle(), condition(), noise, lambda k, t, x_t, x0: seen.append((t, x_t)))
    assert [t for t, _ in seen] == pytest.approx([0.8, 0.6, 0.4, (0.002 / 80) ** (1 / 7)])
    assert_close(seen[0][1], 80 * 0.8**7 * noise(0))


def test_how_many_calls_a_sampler_makes() -> None:
    schedule = GaussianProcess().noise_schedule
    make = lambda spec: from_spec(samplers.registry, spec)  # noqa: E731
    for spec in ({"name": "ddim", "steps": 7}, {"name": "ddim", "grid": "4,6,10"}, {"name": "ddim_legacy", "steps": 3}):
        assert make(spec).calls(schedule) == len(times_of(make(spec)))
    assert make({"name": "ddim_legacy", "steps": 3}).calls(schedule) == 4  # indices 1999, 1333, 667 and 1
    assert make("renoise").calls(schedule) == 2


def test_a_grid_has_its_own_number_of_steps() -> None:
    sampler = from_spec(samplers.registry, {"name": "ancestral", "grid": "4,6,10"})
    assert sampler.steps == 20
    assert from_spec(samplers.registry, sampler.spec()) == sampler
    assert from_spec(samplers.registry, {"name": "ddim", "grid": "ddim20", "steps": 20}).steps == 20


def test_rounding_between_two_times() -> None:
    sampler = from_spec(
        samplers.registry, {"name": "ddim", "steps": 10, "rounding": True, "rounding_times": [0.25, 0.75]}
    )
    denoiser, seen = oracle(), []
    sampler.sample(denoiser, condition(), noise, lambda k, t, x_t, x0: seen.append((t, x0)))
    rows = {tuple(row) for row in denoiser.space.table.tolist()}
    rounded = [{tuple(row) for row in x0.flatten(0, 1).tolist()} <= rows for _, x0 in seen]
    assert rounded == [0.25 <= t <= 0.75 for t, _ in seen]
    assert 0 < sum(rounded) < 10


def test_predictions_are_clipped_after_rounding() -> None:
    sampler = from_spec(samplers.registry, {"name": "ddim", "steps": 3, "clip": 0.5, "rounding": True})
    seen: list[Tensor] = []
    sampler.sample(oracle(), condition(), noise, lambda k, t, x_t, x0: seen.append(x0))
    assert torch.cat(seen).abs().unique().tolist() == [0.5]  # embeddings here are -1 and 1


def test_bounded_noise_is_what_the_steps_use() -> None:
    """With a prediction of 0 the step from t to s is a x_t + std z, from which z follows."""
    process = GaussianProcess()
    x_t, t, s = noise(1), torch.full((B,), 0.5).double(), torch.full((B,), 0.4).double()
    sampler = from_spec(samplers.registry, {"name": "ancestral", "noise_bound": 0.7})
    x_s = sampler.step(process, Step(x_t, torch.zeros_like(x_t), t, s, noise))
    posterior = process.posterior(x_t, torch.zeros_like(x_t), t, s)
    z = (x_s - posterior.mean) / posterior.std_large
    assert float(z.abs().max()) <= 0.7 + 1e-4
    inside = noise(0).abs() <= 0.7
    assert_close(z[inside], noise(0)[inside], rtol=1e-3, atol=1e-4)


def test_no_two_draws_of_a_run_are_the_same() -> None:
    """The absorbing process draws twice a step: no number of a draw comes back."""
    denoiser = Denoiser(EmbeddingSpace(5, D), MeanShift(), TwoPoints(GaussianProcess()))
    draws: list[int] = []

    def recorded(k: int) -> Tensor:
        draws.append(k)
        return noise(k)

    from_spec(samplers.registry, {"name": "ancestral", "steps": 6}).sample(denoiser, condition(), recorded)
    assert len(draws) == len(set(draws)) == 11  # the start and twice for each step but the last


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


@pytest.mark.parametrize("name", ["ddim", "ddim_legacy", "dpm_solver_pp_2m"])
def test_deterministic_samplers_draw_once(name: str) -> None:
    draws: list[int] = []

    def recorded(k: int) -> Tensor:
        draws.append(k)
        return noise(k)

    from_spec(samplers.registry, {"name": name, "steps": 4}).sample(oracle(), condition(), recorded)
    assert draws == [0]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"name": "ddim", "steps": 0}, "steps"),
        ({"name": "one_step", "steps": 2}, "steps"),
        ({"name": "renoise", "t_init": 0.0}, "t_init"),
        ({"name": "ancestral", "variance": "huge"}, "variance"),
        ("dddim", "did you mean 'ddim'"),
        ({"name": "ddim", "grid": "ddim20", "steps": 5}, "steps=5 contradicts grid 'ddim20', which has 20 steps"),
        ({"name": "ddim", "grid": "even ones"}, "neither 'even', nor 'ddimN'"),
        ({"name": "ddim", "grid": 20}, "grid"),
        ({"name": "ddim", "eta": 1.5}, "eta"),
        ({"name": "ddim", "clip": 0.0}, "clip"),
        ({"name": "ancestral", "noise_bound": -1.0}, "noise_bound"),
        ({"name": "ddim_legacy", "gap": 0}, "gap"),
    ],
)
def test_mistakes(spec: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        from_spec(samplers.registry, spec)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"name": "ddim", "grid": "ddim1999"}, "no whole stride leaves 1999 of 2000 steps"),
        ({"name": "ancestral", "grid": "1000,1001"}, "section 2 has 1000 steps, fewer than 1001"),
        ({"name": "ddim_legacy", "steps": 2001}, "more than the 2000 steps"),
    ],
)
def test_what_a_schedule_cannot_do(spec: Any, complaint: str) -> None:
    sampler = from_spec(samplers.registry, spec)
    with pytest.raises(UserError, match=complaint):
        sampler.calls(GaussianProcess().noise_schedule)


@pytest.mark.parametrize("times", [(0.9, 0.1), (2.0, 3.0), (-0.1, 1.0)])
def test_rounding_times_that_would_never_round_are_refused(times: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"rounding_times=.*: give the lower time first, both between 0 and 1"):
        from_spec(samplers.registry, {"name": "ddim", "rounding": True, "rounding_times": times})
