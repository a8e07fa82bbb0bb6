"""Students of several steps: what each step learns from, and that exact scores make every step right."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import tiny
from dlkit.data.sequences import Batch
from dlkit.denoiser import Denoiser, Prediction
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.evaluation.evaluate import evaluate
from dlkit.generator import load_student
from dlkit.objectives._base import Noised
from dlkit.objectives.dmd import Dmd
from dlkit.randomness import Stream
from dlkit.recipe import Recipe, Run
from dlkit.samplers.renoise import Renoise
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.training.data import Draw, HeldOut
from dlkit.training.engine import TorchEngine
from dlkit.training.stage import StageRun
from dlkit.training.turns import Networks, Studio
from gaussian_lab import Gaussian

FOUR: dict[str, Any] = {"generator_steps": 4, "generator_input": "backward_simulation", "t_init": 0.8}
DATA: dict[str, Any] = {**FOUR, "generator_input": "noised_data"}


def stage_of(teacher: Path, data: Path, out: Path, **changes: Any) -> StageRun:
    return StageRun(tiny.distiller(teacher, data, out, batch_size=32, **changes), 0, None)


def asked(stage: StageRun) -> tuple[Draw, Tensor, Tensor, Tensor]:
    """A draw, the states and times its samples are asked at, and the number of each one's step."""
    draw, studio = stage.draw("generator", 0), stage.studio
    x_t, t = studio.step_input(studio.condition(draw), draw, "generator", 0)
    which = studio.stream.named("generator/step").at(0).integers(draw.index, len(studio.grid))
    return draw, x_t, t, which


@pytest.mark.parametrize("changes", [FOUR, DATA], ids=["simulated", "data"])
def test_each_sample_is_at_the_time_of_its_own_step(
    changes: dict[str, Any], teacher: Path, data: Path, tmp_path: Path
) -> None:
    stage = stage_of(teacher, data, tmp_path / "run", **changes)
    draw, x_t, t, which = asked(stage)
    grid = torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64)
    assert_close(t, grid[which])
    assert set(which.tolist()) == {0, 1, 2, 3}
    z = stage.studio.noise(draw, "generator", 0)
    assert torch.equal(x_t[which == 0], z[which == 0])


@pytest.mark.parametrize("changes", [FOUR, DATA], ids=["simulated", "data"])
def test_every_step_is_equally_likely(changes: dict[str, Any], teacher: Path, data: Path, tmp_path: Path) -> None:
    """Within five standard deviations, in each of two updates, and a sample is not at the same step in both."""
    stage, n = stage_of(teacher, data, tmp_path / "run", **changes), 2000
    times = []
    for step in (0, 1):
        draw = stage.whole.corpus.draw(n, step, 0, torch.device("cpu"))
        _, t = stage.studio.step_input(stage.studio.condition(draw), draw, "generator", step)
        asked_at, count = t.unique(return_counts=True)
        assert_close(asked_at, torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64))
        assert_close(count / n, torch.full((4,), 0.25), rtol=0, atol=5 * math.sqrt(0.25 * 0.75 / n))
        times.append(t)
    assert 0.2 < float((times[0] == times[1]).double().mean()) < 0.3


def test_noised_data_is_the_true_text_at_the_steps_time(teacher: Path, data: Path, tmp_path: Path) -> None:
    """To the last bit with the noise at hand, and in the moments of what was added."""
    stage = stage_of(teacher, data, tmp_path / "run", **DATA)
    draw, x_t, t, which = asked(stage)
    studio = stage.studio
    e = studio.space.embed(draw.batch.ids)
    n = studio.noise(draw, "generator/data", 0)
    alpha, sigma = (c[which > 0] for c in (studio.process.alpha(t, e), studio.process.sigma(t, e)))
    later, free = which > 0, draw.batch.mask[which > 0]
    by_hand = alpha * e[later] + sigma * n[later]
    assert torch.equal(x_t[later][free], by_hand[free])
    assert torch.equal(x_t[later][~free], e[later][~free])
    added = ((x_t[later] - alpha * e[later]) / sigma)[free]
    assert abs(float(added.mean())) < 5 / math.sqrt(added.numel())
    assert float(added.std()) == pytest.approx(1.0, abs=5 / math.sqrt(2 * added.numel()))


@pytest.mark.parametrize("exploding", [False, True])
def test_simulation_is_what_generation_does(exploding: bool, teacher: Path, data: Path, tmp_path: Path) -> None:
    """From the same noise: the states that the sampler calls the student with, whatever the variance."""
    if exploding:
        process = {"name": "gaussian", "schedule": {"name": "geometric", "steps": 50}}
        teacher = tiny.run_fit(data, tmp_path / "fit", model={"process": process})
    stage = stage_of(teacher, data, tmp_path / "run", **FOUR)
    draw, x_t, _, which = asked(stage)
    studio, seen = stage.studio, []
    cond = studio.condition(draw)
    noise = lambda k: studio.noise(draw, f"generator/{k}" if k else "generator", 0)  # noqa: E731
    with torch.no_grad():
        Renoise(steps=4, t_init=0.8).sample(
            stage.networks.student, cond, noise, lambda k, t, state, x0: seen.append(cond.apply(state))
        )
    wanted = torch.stack(seen)[which, torch.arange(32)]
    assert_close(cond.apply(x_t), wanted, rtol=1e-5, atol=1e-5)
    size = float(x_t[which == 0][draw.batch.mask[which == 0]].std())
    assert size == pytest.approx(float(studio.process.noise_schedule.sigma(torch.tensor(0.8))) if exploding else 1, 0.1)


def test_simulated_states_are_noised_texts_of_the_student(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Of two steps: the second begins at alpha G(z, t_0) + sigma n."""
    stage = stage_of(teacher, data, tmp_path / "run", **{**FOUR, "generator_steps": 2})
    draw, x_t, t, which = asked(stage)
    studio = stage.studio
    cond = studio.condition(draw)
    with torch.no_grad():
        first = studio.student(cond, studio.noise(draw, "generator", 0))
    later = (which == 1)[:, None] & draw.batch.mask
    alpha, sigma = studio.process.alpha(t, first), studio.process.sigma(t, first)
    added = ((x_t - alpha * first) / sigma)[later]
    assert_close(added, studio.noise(draw, "generator/1", 0)[later], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [FOUR, DATA], ids=["simulated", "data"])
def test_gradients_reach_the_last_call_alone(
    changes: dict[str, Any], teacher: Path, data: Path, tmp_path: Path
) -> None:
    """They are those of one call on states that are constants."""
    stage = stage_of(teacher, data, tmp_path / "run", **changes)
    draw, x_t, t, _ = asked(stage)
    student, cond = stage.networks.student, stage.studio.condition(draw)
    assert not x_t.requires_grad
    parameters = list(student.backbone.parameters())
    whole = torch.autograd.grad(stage.generate(draw, "generator", 0, graph=True).square().sum(), parameters)
    last = torch.autograd.grad(cond.apply(student.predict(x_t, t, cond).x0).square().sum(), parameters)
    for found, wanted in zip(whole, last, strict=True):
        assert_close(found, wanted)


def test_gradients_survive_autocast(teacher: Path, data: Path, tmp_path: Path) -> None:
    """The calls without gradient leave casts of the weights behind, which the last one must not take for its own."""
    found = []
    for precision in ("fp32", "bf16"):
        engine = TorchEngine(Run(device="cpu", precision=precision))  # type: ignore[arg-type]
        settings: dict[str, Any] = {**FOUR, "batch_size": 32}
        stage = StageRun(tiny.distiller(teacher, data, tmp_path / precision, engine, **settings), 0, None)
        x0 = stage.generate(stage.draw("generator", 0), "generator", 0, graph=True)
        found.append(
            torch.autograd.grad(x0.float().square().mean(), list(stage.networks.student.backbone.parameters()))
        )
    whole = torch.cat([gradient.flatten() for gradient in found[0]])
    error = torch.cat([(a - b).flatten() for a, b in zip(*found, strict=True)])
    assert float(error.norm()) < 0.1 * float(whole.norm())


def test_the_critic_sees_the_texts_of_all_steps(teacher: Path, data: Path, tmp_path: Path) -> None:
    stage = stage_of(teacher, data, tmp_path / "run", **FOUR, adv=True)
    calls: list[Tensor] = []
    stage.networks.student.backbone.register_forward_pre_hook(lambda module, args: calls.append(args[1]))
    stage.critic_step(0)
    assert len(calls) == 4
    assert len(calls[-1].unique()) == 4
    assert len(calls[0].unique()) == 1


@pytest.mark.parametrize("plan", ["dlm_one", "dmd2"])
@pytest.mark.parametrize("changes", [FOUR, DATA], ids=["simulated", "data"])
def test_a_student_knows_its_steps(
    plan: str, changes: dict[str, Any], teacher: Path, data: Path, tmp_path: Path
) -> None:
    student = load_student(tiny.run_distill(teacher, data, tmp_path / "run", adv=True, plan=plan, **changes))
    assert student.architecture.sampler.spec() == Renoise(steps=4, t_init=0.8).spec()
    sources, times = ["where are books sold in paris ?"], []
    own = student.generate(sources, num_samples=3, observe=lambda k, t, x_t, x0: times.append(t))
    assert times == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert own == student.generate(sources, num_samples=3, steps=4)
    assert student.choose_sampler(None, 1) == Renoise(steps=1, t_init=0.8)
    row, _ = evaluate(student, HeldOut.read(data, "valid", 2))
    assert (row.nfe, row.name) == (4, "student renoise 4")


def test_validation_is_by_the_students_own_steps(
    teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    sample = Renoise.sample

    def spy(sampler: Renoise, *args: Any) -> Tensor:
        calls.append(sampler.steps)
        return sample(sampler, *args)

    monkeypatch.setattr(Renoise, "sample", spy)
    tiny.run_distill(teacher, data, tmp_path / "run", **FOUR)
    assert calls == [4]


def test_a_run_that_goes_on_ends_the_same(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Interrupted at each checkpoint, bit for bit."""
    changes: dict[str, Any] = {**FOUR, "adv": True, "run": {"checkpoint_every": 1}}
    straight = tiny.weights(tiny.run_distill(teacher, data, tmp_path / "straight", **changes))
    stop = tiny.distiller(teacher, data, tmp_path / "again", **changes)
    stage = StageRun(stop, 0, None)
    for step in range(2):
        values = stage.step(step)
        stage.done = step + 1
        stop.after_step(stage, values)
    path, _ = stop.folder.checkpoints, stop.folder.path
    assert [p.name for p in path.iterdir()]
    whole = tiny.distiller(teacher, data, tmp_path / "other", **changes)
    path.rename(whole.folder.checkpoints)
    whole.run()
    assert tiny.weights(tmp_path / "other" / "student") == straight


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator_steps": 4}, "generator_steps=4: from noise only the first step learns; set generator_input="),
        ({"generator_input": "noised_data"}, "generator_input=noised_data: a student of one step has no later ones"),
        ({"generator_steps": 0}, "generator_steps"),
        ({"generator_input": "data"}, "generator_input"),
    ],
)
def test_steps_that_nothing_teaches_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe(**settings)


def test_steps_below_the_teachers_lowest_time_are_refused(teacher: Path, data: Path, tmp_path: Path) -> None:
    message = "generator_steps: the last of 50 steps is at time 0.016, below 0.02, the lowest .* take fewer"
    with pytest.raises(UserError, match=message):
        tiny.run_distill(teacher, data, tmp_path / "run", **{**FOUR, "generator_steps": 50})
    assert not (tmp_path / "run").exists()


# --- one number as a text, its teacher N(m, s^2) and the fake score of the student's mixture known exactly

REAL = Gaussian(torch.tensor([0.7]).double(), torch.tensor([[0.25]]).double())
PROCESS = GaussianProcess()
COUNT = 1024


class Affine(nn.Module):
    """G(x, t) = a_t x + b_t, with a and b of its own at each time of the grid."""

    def __init__(self, grid: list[float]) -> None:
        super().__init__()
        self.clock = PROCESS.noise_schedule.network_time(torch.tensor(grid, dtype=torch.float64))
        self.a = nn.Parameter(torch.tensor([0.5, 0.5]).double())
        self.b = nn.Parameter(torch.tensor([0.0, 0.0]).double())

    def forward(self, x: Tensor, time: Tensor, taps: Any = None) -> tuple[Tensor, None]:
        step = (time[:, None] - self.clock).abs().argmin(1)
        return self.a[step][:, None, None] * x + self.b[step][:, None, None], None

    def texts(self, grid: list[float]) -> list[Gaussian]:
        """Of the first step from noise, and of the second from noised texts of the first."""
        mean, var, made = torch.zeros(()).double(), torch.ones(()).double(), []
        for k, t in enumerate(torch.tensor(grid, dtype=torch.float64)):
            if k:
                alpha, sigma = PROCESS.noise_schedule.alpha(t), PROCESS.noise_schedule.sigma(t)
                mean, var = alpha * mean, alpha**2 * var + sigma**2
            mean, var = (self.a[k] * mean + self.b[k]).detach(), (self.a[k] ** 2 * var).detach()
            made.append(Gaussian(mean[None], var[None, None]))
        return made


class ExactMixture:
    """The roles of a student whose texts are, with equal shares, those of each of its steps."""

    process = PROCESS
    space = EmbeddingSpace(3, 1)

    def __init__(self, parts: list[Gaussian]) -> None:
        self.parts = parts

    def teacher(self, noised: Noised, graph: bool = True) -> Prediction:
        x0 = REAL.denoise(PROCESS, noised.x_t.detach(), noised.t)
        return Prediction(x0, x0)

    def fake_score(self, noised: Noised, graph: bool = True) -> Prediction:
        """The parts' estimates, weighed by how likely each part is to have made the state."""
        x_t = noised.x_t.detach()
        share = torch.stack([part.log_density(PROCESS, x_t, noised.t) for part in self.parts]).softmax(0)
        x0 = torch.stack([part.denoise(PROCESS, x_t, noised.t) for part in self.parts])
        mixed = (share[:, :, None, None] * x0).sum(0)
        return Prediction(mixed, mixed)

    def discriminator(self, noised: Noised) -> Tensor:
        raise NotImplementedError


def laboratory(student: Affine | None = None) -> tuple[Studio, Affine]:
    recipe = Recipe(
        generator_steps=2,
        generator_input="backward_simulation",
        t_init=1.0,
        time_sampler={"name": "uniform", "t_max": 0.3},  # type: ignore[arg-type]
    )
    grid = Renoise(steps=2, t_init=1.0).times
    space, backbone = EmbeddingSpace(3, 1).double(), student or Affine(grid)
    networks = Networks(Denoiser(space, PROCESS, nn.Identity()), Denoiser(space, PROCESS, backbone))
    return Studio(recipe, recipe.stage(0), networks, Stream(0, "lab")), backbone


def rows(step: int) -> Draw:
    index = torch.arange(COUNT) + step * COUNT
    ids, mask = torch.zeros(COUNT, 1, dtype=torch.int64), torch.ones(COUNT, 1, dtype=torch.bool)
    return Draw(Batch(ids, mask, index), index)


def pull(studio: Studio, student: Affine, step: int) -> Tensor:
    """The generator's loss of one update."""
    draw = rows(step)
    fake = studio.noised(studio.generated(draw, "generator", step), draw, "generator/fake", step)
    roles = ExactMixture(student.texts(studio.grid))
    return torch.stack(list(Dmd(weight="none").generator_terms(roles, fake).values())).sum()


def test_the_laboratory_knows_the_students_texts() -> None:
    studio, student = laboratory()
    with torch.no_grad():
        student.a.copy_(torch.tensor([1.5, 0.4]))
        student.b.copy_(torch.tensor([-1.0, 0.3]))
        draws = [studio.generated(rows(step), "generator", step).flatten() for step in range(8)]
        steps = [studio.stream.named("generator/step").at(k).integers(rows(k).index, 2) for k in range(8)]
    texts, which = torch.cat(draws), torch.cat(steps)
    for k, part in enumerate(student.texts(studio.grid)):
        own, spread = texts[which == k], float(part.covariance.sqrt())
        assert float(own.mean()) == pytest.approx(float(part.mean), abs=5 * spread / math.sqrt(len(own)))
        assert float(own.std()) == pytest.approx(spread, rel=5 / math.sqrt(2 * len(own)))


def right_student(grid: list[float]) -> Affine:
    """Every step's texts are the teacher's."""
    student = Affine(grid)
    alpha, sigma = (
        float(f(torch.tensor(grid[1]).double())) for f in (PROCESS.noise_schedule.alpha, PROCESS.noise_schedule.sigma)
    )
    spread = 0.5 / math.sqrt(alpha**2 * 0.25 + sigma**2)
    with torch.no_grad():
        student.a.copy_(torch.tensor([0.5, spread]))
        student.b.copy_(torch.tensor([0.7, 0.7 - spread * alpha * 0.7]))
    return student


def test_a_student_whose_every_step_is_right_stays() -> None:
    studio, student = laboratory(right_student([1.0, 0.5]))
    still = torch.autograd.grad(pull(studio, student, 0), [student.a, student.b])
    assert max(float(gradient.abs().max()) for gradient in still) < 1e-8
    studio, student = laboratory()
    moved = torch.autograd.grad(pull(studio, student, 0), [student.a, student.b])
    assert max(float(gradient.abs().max()) for gradient in moved) > 1e-2


def mixture_kl(parts: list[Gaussian]) -> float:
    """KL(mixture of the parts | REAL), on a grid."""
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    normal = lambda g: torch.distributions.Normal(float(g.mean), float(g.covariance.sqrt())).log_prob(x)  # noqa: E731
    log_q = torch.stack([normal(part) for part in parts]).logsumexp(0) - math.log(len(parts))
    return float(torch.trapezoid(log_q.exp() * (log_q - normal(REAL)), x))


def descended(b: list[float]) -> list[Gaussian]:
    """The texts of both steps after 80 updates from this start."""
    studio, student = laboratory()
    with torch.no_grad():
        student.b.copy_(torch.tensor(b))
    optimizer = torch.optim.Adam([student.a, student.b], betas=(0.5, 0.99))
    for step in range(80):
        for group in optimizer.param_groups:
            group["lr"] = 0.15 * (1 - step / 80)
        optimizer.zero_grad()
        pull(studio, student, step).backward()
        optimizer.step()
    return student.texts(studio.grid)


def test_descent_makes_every_step_right() -> None:
    """From steps that begin alike, though the scores are only the mixture's."""
    made = descended([0.0, 0.0])
    assert mixture_kl(made) < 1e-4
    for part in made:
        assert float(part.mean) == pytest.approx(0.7, abs=0.1)
        assert float(part.covariance.sqrt()) == pytest.approx(0.5, abs=0.02)


def test_steps_that_begin_apart_divide_the_texts_among_themselves() -> None:
    """The mixture nears the teacher while each step keeps to a side of it: nothing asks for more."""
    low, high = descended([-1.0, 2.0])
    assert mixture_kl([low, high]) < 0.2  # of more than 2 at the start
    assert float(low.mean + high.mean) / 2 == pytest.approx(0.7, abs=0.03)
    assert float(high.mean - low.mean) > 0.5
    assert max(float(part.covariance.sqrt()) for part in (low, high)) < 0.4


@pytest.mark.parametrize("gap", [0.1, 0.2])
def test_what_cancels_in_the_mixture_is_hardly_seen(gap: float) -> None:
    """Means apart by twice the gap at the teacher's mean and variance: a KL of the gap's eighth power."""
    near, far = (
        mixture_kl([Gaussian(REAL.mean + s * d, REAL.covariance - d * d) for s in (-1, 1)]) for d in (gap, 1.2 * gap)
    )
    assert math.log(far / near) / math.log(1.2) == pytest.approx(8, abs=0.5)
