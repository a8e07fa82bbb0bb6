"""Flow-map objectives at the exact map: zero loss, no gradient, and the way back to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dlkit import objectives
from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.backbones.flm import FlmSpec
from dlkit.denoiser import Denoiser, Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.flow_map import along
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.objectives._base import Noised
from dlkit.objectives._trajectory import FlowMap, Trip, Way
from dlkit.part import from_spec
from dlkit.randomness import Stream
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.testing import _material as material
from dlkit.testing import _trajectories
from dlkit.testing._material import begun, seeded
from dlkit.training.turns import Turn
from flow_lab import FLOW, PROCESSES, GaussianMap, TokenMap

Map = Callable[[Tensor, Tensor, Tensor], Tensor]
NAMES = ("psd", "lsd", "esd")
N, LENGTH = 64, 2


@dataclass
class Roles:
    """A teacher and a student that are functions."""

    exact: Map
    own: Map
    process: GaussianProcess
    space: EmbeddingSpace = field(default_factory=lambda: EmbeddingSpace(3, 3))

    def ask(
        self, who: str, x: Tensor, s: Tensor, cond: Condition, end: Tensor | None = None, want: Any = frozenset()
    ) -> Prediction:
        with torch.set_grad_enabled(who == "student"):
            of = self.exact if who in ("teacher", "guide") else self.own
            d = of(x, s, s if end is None else end)
        at_rest = of(x, s, s) if "uncorrected" in want else None
        return Prediction(d, d, d.log() if "logits" in want else None, uncorrected=at_rest)

    def log_weight(self, s: Tensor) -> Tensor:
        return torch.zeros_like(s)


def trip(objective: FlowMap, x0: Tensor, process: GaussianProcess, step: int = 0, lowest: float = 0.02) -> Trip:
    """Texts noised to the beginnings of jumps, and to times of the diagonal; all at some distance from clean text."""
    stream, index = Stream(0, "trip").at(step), torch.arange(len(x0))
    schedule = process.noise_schedule
    way = objective.way(lambda name: stream.named(name).uniform(index), schedule, 0.98)
    way = Way(*(lowest + (1 - lowest) * t for t in (way.begin, way.middle, way.end)))
    t = lowest + 0.96 * (1 - lowest) * stream.named("diagonal").uniform(index)
    cond = Condition(None, torch.ones(x0.shape[:2], dtype=torch.bool))
    eps = lambda name: stream.named(name).normal(index, *x0.shape[1:]).double()  # noqa: E731
    still = Noised(x0, process.q_sample(x0, t, eps("still")), t, cond)
    return Trip(x0, process.q_sample(x0, way.begin, eps("eps")), way.begin, cond, way=way, still=still)


def texts(exact: GaussianMap, step: int = 0, count: int = N) -> Tensor:
    draws = Stream(0, "texts").at(step).normal(torch.arange(count), LENGTH, 3).double()
    return exact.mean + exact.variance.sqrt() * draws


def gaussian(process: GaussianProcess) -> GaussianMap:
    return GaussianMap(torch.tensor([0.5, -0.3, 0.0]).double(), torch.tensor([0.5, 1.0, 2.0]).double(), process)


def objective(name: str, **settings: Any) -> FlowMap:
    return from_spec(objectives.registry, {"name": name, **settings})


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", NAMES)
def test_no_loss_at_the_exact_gaussian_map(name: str, process: str) -> None:
    exact = gaussian(PROCESSES[process])
    part = objective(name, loss="squared")
    at = trip(part, texts(exact), exact.process)
    here = part.generator_terms(Roles(exact, exact, exact.process), at)
    assert here.keys() == {"diagonal", name}
    assert max(here.values()) < 1e-12
    bent = lambda x, s, t: exact(x, s, t) + (0.1 * (s - t))[:, None, None] * x  # noqa: E731
    assert part.generator_terms(Roles(exact, bent, exact.process), at)[name] > 1e-6


@pytest.mark.parametrize("diagonal", ["teacher", "data"])
@pytest.mark.parametrize("name", NAMES)
def test_what_the_diagonal_tells(name: str, diagonal: str) -> None:
    """That a map is another Gaussian's. Jumps alone do where their target asks the teacher for the flow."""
    for process in PROCESSES.values():
        exact = gaussian(process)
        part = objective(name, loss="squared", diagonal=diagonal)
        other = GaussianMap(exact.mean + 0.2, exact.variance, process)
        at = trip(part, texts(exact), process)
        here, there = (part.generator_terms(Roles(exact, own, process), at) for own in (exact, other))
        if name != "psd" and diagonal == "teacher":
            assert there[name] > 0.01
        else:
            assert there[name] < 1e-12
        assert there["diagonal"] > here["diagonal"] + 0.01


class Learner(nn.Module):
    """The map of another Gaussian, and what no map has beside: (s - t)(x w + b)."""

    def __init__(self, exact: GaussianMap, off: float) -> None:
        super().__init__()
        draws = off * Stream(1, "learner").normal(torch.arange(4), 3).double()
        self.mean, self.log_variance = (
            nn.Parameter(exact.mean + draws[0]),
            nn.Parameter(exact.variance.log() + draws[1]),
        )
        self.w, self.b = nn.Parameter(draws[2].clone()), nn.Parameter(draws[3].clone())
        self.process = exact.process

    def forward(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        d = GaussianMap(self.mean, self.log_variance.exp(), self.process)(x, s, t)
        return d + (s - t)[:, None, None] * (x * self.w + self.b)

    def distance(self, exact: GaussianMap) -> float:
        far = (self.mean - exact.mean, self.log_variance - exact.variance.log(), self.w, self.b)
        return max(float(each.detach().abs().max()) for each in far)


@pytest.mark.parametrize(
    ("name", "process", "diagonal"),
    [
        *((name, "rectified_flow", "teacher") for name in NAMES),
        ("psd", "trig", "teacher"),
        ("lsd", "sqrt", "teacher"),
        ("esd", "cosine", "teacher"),
        *((name, "rectified_flow", "data") for name in NAMES),
    ],
)
def test_training_returns_to_the_map(name: str, process: str, diagonal: str) -> None:
    """From a small perturbation, with the diagonal; true texts teach it up to their number.

    ``esd`` is not asked near clean text, where its targets are large, and takes more updates.
    """
    exact, of_data = gaussian(PROCESSES[process]), diagonal == "data"
    part, learner = objective(name, loss="squared", diagonal=diagonal), Learner(exact, 0.2)
    roles = Roles(exact, learner, exact.process)
    begun, count = learner.distance(exact), 1000 if of_data else 64
    steps, lowest = (200 if of_data else 100, 0.1) if name == "esd" else (60, 0.02)
    optimizer = torch.optim.Adam(learner.parameters())
    trips = [trip(part, texts(exact, step, count), exact.process, step, lowest) for step in range(4)]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.06 * (1 - step / steps)
        terms = part.generator_terms(roles, trips[step % 4])
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert begun > 0.2
    assert learner.distance(exact) < (0.1 if of_data else 0.03)


SHARES = torch.tensor([0.5, 0.3, 0.2]).double()


def tokens() -> Tensor:
    """One-hot texts with those shares."""
    drawn = torch.multinomial(SHARES.expand(16, 3), 2, True, generator=torch.Generator().manual_seed(0))
    return torch.eye(3).double()[drawn]


ALPHAS = (None, 1.5, 2.0)
PROJECTED = [("psd", {}), *((name, {"entmax": alpha}) for name in ("lsd", "esd") for alpha in ALPHAS)]


@pytest.mark.parametrize(("name", "settings"), PROJECTED)
def test_cross_entropy_at_the_exact_map_of_tokens(name: str, settings: dict[str, Any]) -> None:
    """No gradient, but beside the map; and the loss is the target's entropy, with projection or without."""
    exact, part = TokenMap(SHARES.log(), FLOW, steps=24), objective(name, loss="cross_entropy", **settings)
    at = trip(part, tokens(), FLOW, lowest=0.3)

    def shifted(off: list[float]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The terms beside the map by logits of any kind, in and away from the diagonal; their largest gradients."""
        shift = torch.tensor(off).double().requires_grad_()

        def own(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
            bent = exact(x, s, t).log() + shift * (1 + (s - t)[:, None, None] + x)
            return bent.softmax(-1)

        terms = part.generator_terms(Roles(exact, own, FLOW), at)
        slopes = {key: torch.autograd.grad(term, shift, retain_graph=True)[0] for key, term in terms.items()}
        return terms, {key: float(slope.abs().max()) for key, slope in slopes.items()}

    terms, slopes = shifted([0.0, 0.0, 0.0])
    assert max(slopes.values()) < 1e-6
    d = exact(at.x_t, at.t, at.way.end)
    assert_close(terms[name].detach(), -(d * d.log()).sum(-1).mean(), rtol=1e-4, atol=1e-5)
    still = exact(at.still.x_t, at.still.t, at.still.t)
    assert_close(terms["diagonal"].detach(), -(still * still.log()).sum(-1).mean())
    assert min(shifted([0.4, -0.3, 0.0])[1].values()) > 1e-3


@pytest.mark.parametrize("alpha", [1.5, 2.0])
@pytest.mark.parametrize("name", ["lsd", "esd"])
def test_a_target_that_leaves_the_simplex_comes_back(name: str, alpha: float) -> None:
    """Where the student's map changes fast with the times of a jump. Those that did not leave it stay as they are."""
    exact = TokenMap(SHARES.log(), FLOW, steps=4)
    wave = lambda length: (12 * length)[:, None, None].sin() * torch.tensor([1.0, -0.5, 0.0]).double()  # noqa: E731
    own = lambda x, s, t: (exact(x, s, t).log() + wave(s - t)).softmax(-1)  # noqa: E731
    parts = [objective(name, loss="cross_entropy", entmax=entmax) for entmax in (None, alpha)]
    at = trip(parts[0], tokens(), FLOW, lowest=0.3)
    with torch.no_grad():
        free, held = (part.target(Roles(exact, own, FLOW), at) for part in parts)
    assert free.min() < -0.1
    assert held.min() >= 0
    assert_close(held.sum(-1), torch.ones_like(held[..., 0]))
    inside = free.min(-1).values >= 0
    assert bool(inside.any())
    assert_close(held[inside], free[inside])
    least = parts[1].generator_terms(Roles(exact, own, FLOW), at)[name]
    assert least >= -(held * held.clamp_min(1e-300).log()).sum(-1).mean()


def test_a_residual_is_held_to_the_same_map() -> None:
    """No loss at the exact map; with a weighting, which is 0 here, the loss is the same; another map is told."""
    exact = gaussian(FLOW)
    part = objective("residual_psd", guard=0.0)
    at = trip(part, texts(exact), FLOW, lowest=0.1)
    other = lambda x, s, t: exact(x, s, t) + (0.1 * (s - t))[:, None, None] * x  # noqa: E731
    assert part.generator_terms(Roles(exact, exact, FLOW), at)["residual_psd"] < 1e-12
    assert part.generator_terms(Roles(exact, other, FLOW), at)["residual_psd"] > 1e-6
    assert_close(at.way.middle, (at.way.begin + at.way.end) / 2)


def test_the_guard_divides_the_teacher_s_velocity_and_not_the_residual() -> None:
    networks = _trajectories.networks(objective("residual_psd"), FLOW)
    roles, student = Turn(networks, None, critic=False), networks.student
    x, s, t = torch.randn(2, 3, material.DIM).double(), torch.tensor([0.9, 0.02]).double(), torch.zeros(2).double()
    cond = Condition(None, torch.ones(2, 3, dtype=torch.bool))
    free, held = (objective("residual_psd", guard=guard).mapped(roles, x, s, t, cond).x0 for guard in (0.0, 0.1))
    sigma = FLOW.sigma(s, x)
    at_rest, jumped = (student.predict(x, s, cond, end=end).x0.detach() for end in (None, t))
    v, g = (at_rest - x) / (sigma + 0.1), (jumped - at_rest) / sigma
    assert_close(held, x + sigma * (v + g))
    assert float((held - free).abs().max()) > 0.01 < float(g.abs().max())


def test_maps_are_compared_where_jumps_land() -> None:
    exact = gaussian(FLOW)
    other = GaussianMap(exact.mean + 0.2, exact.variance, FLOW)
    part = objective("map_matching", map="another student")
    at = trip(part, texts(exact), FLOW)
    (loss,) = part.generator_terms(Roles(exact, other, FLOW), at).values()
    landed = [m.jump(at.x_t, at.t, at.way.end) for m in (exact, other)]
    assert_close(loss, (landed[0] - landed[1]).square().sum(-1).mean())
    assert part.generator_terms(Roles(exact, exact, FLOW), at)["map_matching"] < 1e-20


@pytest.mark.parametrize("loss", ["squared", "pseudo_huber"])
def test_consistency_is_exact_where_the_grid_is_fine(loss: str) -> None:
    """At the exact end of every trajectory the loss falls with the square of the grid's step; not elsewhere."""
    exact = gaussian(PROCESSES["trig"])
    ends = lambda x, s, t: exact(x, s, torch.zeros_like(s))  # noqa: E731
    teacher = lambda x, s, t: exact(x, s, s)  # noqa: E731

    def loss_of(steps: int, own: Map) -> float:
        part = objective("consistency", loss=loss, steps=steps)
        at = trip(part, texts(exact, count=2000), exact.process, lowest=0.0)
        return float(part.generator_terms(Roles(teacher, own, exact.process), at)["consistency"])

    coarse, fine = loss_of(16, ends), loss_of(128, ends)
    assert fine < coarse / 40
    assert loss_of(128, teacher) > 3 * fine


def test_jumps_are_of_all_lengths_and_some_go_all_the_way() -> None:
    """d ~ U(0, 1), s ~ U(d, 1): their moments within five standard errors; no time is too low."""
    count, stream = 20_000, Stream(0, "ways")
    way = objective("psd", boundary=0.25).way(
        lambda name: stream.named(name).uniform(torch.arange(count)), FLOW.noise_schedule, 1.0
    )
    whole = (way.begin == 1.0) & (way.end == 0.0)
    assert abs(float(whole.double().mean()) - 0.25) < 5 * (0.25 * 0.75 / count) ** 0.5
    length, begin = (way.begin - way.end)[~whole], way.begin[~whole]
    assert abs(float(length.mean()) - 0.5) < 5 * (1 / 12 / len(length)) ** 0.5
    assert abs(float((begin - length).mean()) - 0.25) < 5 * 0.3 / len(length) ** 0.5
    assert bool(((way.end <= way.middle) & (way.middle <= way.begin)).all())
    assert way.begin.min() >= FLOW.noise_schedule.t_min
    esd = objective("esd").way(lambda name: stream.named(name).uniform(torch.arange(count)), FLOW.noise_schedule, 1.0)
    assert esd.end.min() == FLOW.noise_schedule.t_min


NETWORKS = {
    "flm": FlmSpec(layers=2, hidden=16, heads=2, cond=8, two_times=True, dropout=0.0),
    "diffuseq": DiffuseqSpec(layers=2, hidden=16, heads=2, ff=32, time_dim=8, max_positions=8, dropout=0.0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_derivatives_in_forward_mode(name: str) -> None:
    """Those of a denoiser's x0 in state and time are its differences."""
    spec, process = NETWORKS[name], PROCESSES["trig"]
    network = begun(seeded(spec.build, 5, 7))
    prediction = "logits" if name == "flm" else "x0"
    denoiser = Denoiser(EmbeddingSpace(7, 5), process, network, prediction).double().eval()
    x, way = (Stream(0, use).normal(torch.arange(2), 4, 5).double() for use in ("x", "way"))
    s, ones = torch.tensor([0.8, 0.5]).double(), torch.ones(2).double()
    end = {"end": 0.4 * s} if denoiser.two_times else {}

    def ask(x: Tensor, s: Tensor) -> Tensor:
        return denoiser.predict(x, s, None, **end).x0

    with torch.no_grad():
        value, slope = along(ask, (x, s), (way, ones))
        h = 1e-4  # the sinusoids are computed in float32
        difference = (ask(x + h * way, s + h) - ask(x - h * way, s - h)) / (2 * h)
    assert_close(value, ask(x, s))
    assert_close(slope, difference, rtol=0.05, atol=0.01)
    assert float(slope.abs().max()) > 0.1
