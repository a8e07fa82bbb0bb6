"""Objectives in the Gaussian laboratory, where fixed points, directions and biases are formulas."""

import itertools
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit import objectives
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.objectives._base import Objective
from dlkit.objectives._matching import Weight
from dlkit.objectives.diff_instruct import DiffInstruct
from dlkit.objectives.dmd import Dmd
from dlkit.objectives.f_distill import Divergence, FDistill, weight_of_ratio
from dlkit.objectives.fisher import Fisher
from dlkit.objectives.moment_matching import MomentMatching
from dlkit.objectives.sid import Sid
from dlkit.part import from_spec
from dlkit.randomness import Stream
from gaussian_lab import TIMES, Gaussian, Lab, Student, kl, noised, start_near, student_at, teacher_of, whitened
from gaussian_lab import ExactRoles as Exact
from schedules.every import table

PROCESS = GaussianProcess()
DIVERGENCES: tuple[Divergence, ...] = get_args(Divergence)
WEIGHTS: tuple[Weight, ...] = get_args(Weight)
SEEDS = st.integers(0, 10**6)
EXACT = {"rtol": 1e-8, "atol": 1e-12}

CASES: list[dict[str, Any]] = [
    *({"name": "sid", "mu": mu, "weight": weight} for mu in (0.5, 1.0, 1.2) for weight in ("l1", "snr")),
    *({"name": "dmd", "weight": weight} for weight in WEIGHTS),
    *({"name": "diff_instruct", "weight": weight} for weight in ("kl", "kl_sigma2")),
    *({"name": "moment_matching", "weight": weight} for weight in ("none", "l1")),
    *({"name": "f_distill", "divergence": divergence} for divergence in DIVERGENCES),
    {"name": "f_distill", "divergence": "forward_kl", "normalise": "none"},
]


SCHEDULES: dict[str, Any] = {
    **{name: name for name in ("sqrt", "cosine", "rectified_flow", "karras")},
    "per_position": {"name": "per_position", "table": table([3.0, 8.0], 20)},  # two positions of two elements
}
PROCESSES = {name: GaussianProcess.model_validate({"schedule": spec}) for name, spec in SCHEDULES.items()}
QUICK = {  # beside those under sqrt: each objective once, each schedule at least once
    **{"sid-1.2-l1": "karras", "dmd-l1": "cosine", "diff_instruct-kl": "per_position"},
    **{"moment_matching-none": "rectified_flow", "f_distill-jensen_shannon": "per_position"},
}


def case_id(case: dict[str, Any]) -> str:
    return "-".join(map(str, case.values()))


def lab_of(case: dict[str, Any], real: Gaussian, schedule: str = "sqrt", **settings: Any) -> Lab:
    """A laboratory whose fake score is the optimum of the objective's own critic."""
    pulled, process = 0.5 if case["name"] == "moment_matching" else 0.0, PROCESSES[schedule]
    objective = from_spec(objectives.registry, case)
    return Lab(objective, real, times_under(process), pulled=pulled, process=process, **settings)


def times_under(process: GaussianProcess) -> tuple[float, ...]:
    """Some of low and some of high noise, none below the lowest that a network is trained at."""
    lowest = process.noise_schedule.t_min
    return TIMES if lowest < TIMES[0] else tuple(lowest + (1 - lowest) * t for t in TIMES)


# --- the identity that SiD rests on


def random_field(seed: int, width: int) -> Callable[[Tensor], Tensor]:
    """u: R^n -> R^n, a random bounded function."""
    draws = Stream(seed, "field").normal(torch.arange(1), 2 * width + 1, 16)[0].double()
    inner, outer, shift = draws[:width] / 2, draws[width:-1], draws[-1]
    return lambda x: torch.sin(x @ inner + shift) @ outer.T


def projection_gap(seed: int, t: float, score: Callable[[Gaussian, Tensor, Tensor], Tensor]) -> float:
    """E[u(x_t).score(x_t)] - E[u(x_t).grad log q(x_t | x_0)] in units of its sampling error, over 20,000 samples."""
    real, count = teacher_of(seed), 20_000
    draws = Stream(seed, "samples").normal(torch.arange(count), 8).double()
    x0 = real.mean + draws[:, :4] @ torch.linalg.cholesky(real.covariance).T
    times = torch.full((count,), t).double()
    x_t = PROCESS.q_sample(x0, times, draws[:, 4:])
    of_given = -(x_t - PROCESS.alpha(times, x0) * x0) / PROCESS.sigma(times, x0).square()
    difference = (random_field(seed, 4)(x_t) * (score(real, x_t, times) - of_given)).sum(1)
    return float(difference.mean() / (difference.std() / count**0.5))


def exact_score(real: Gaussian, x_t: Tensor, t: Tensor) -> Tensor:
    return PROCESS.convert(real.denoise(PROCESS, x_t, t), x_t, t, "x0", "score")


@settings(max_examples=15)
@given(SEEDS, st.floats(0.02, 0.98))
def test_score_projection(seed: int, t: float) -> None:
    """E[u.s*(x_t)] = E[u.grad log q(x_t | x_0)] for any u: beyond 5 standard errors lies 1 case in 1.7 million."""
    assert abs(projection_gap(seed, t, exact_score)) < 5


def test_score_projection_tells_a_wrong_score() -> None:
    """The same measurement on the score of a displaced Gaussian: it is not blind."""
    wrong = lambda real, x_t, t: exact_score(Gaussian(real.mean + 0.5, real.covariance), x_t, t)  # noqa: E731
    assert max(abs(projection_gap(seed, 0.3, wrong)) for seed in range(5)) > 10


def test_the_lab_is_right() -> None:
    """The denoiser is the score of its own density, by Tweedie."""
    real, t = teacher_of(0), torch.tensor([0.1, 0.7]).double()
    x_t = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(real.log_density(PROCESS, x_t, t).sum(), x_t)
    assert_close(exact_score(real, x_t, t), score, **EXACT)


# --- fixed point and descent


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_teacher_is_a_fixed_point(case: dict[str, Any], schedule: str) -> None:
    """Up to rounding, which `kl` magnifies by (alpha / sigma)^2: 10^5 at the lowest noise here."""
    for seed in range(3 if schedule == "sqrt" else 1):
        real = teacher_of(seed)
        lab = lab_of(case, real, schedule)
        here, elsewhere = (
            max(float(gradient.abs().max()) for gradient in lab.gradient(student))
            for student in (student_at(real), start_near(real, seed))
        )
        assert here < 1e-11 < 1e-4 < elsewhere


def check_descent(case: dict[str, Any], schedule: str, seed: int, steps: int = 60) -> None:
    """Teacher, start and noise are all drawn from the seed."""
    real = teacher_of(seed)
    student = start_near(real, seed)
    assert kl(student.distribution(), real) > 1e-2
    assert lab_of(case, real, schedule, seed=seed).descend(student, steps) < 1e-3


def everywhere() -> list[Any]:
    """Every case under every schedule; most of them are slow."""
    quick = lambda case, schedule: schedule in ("sqrt", QUICK.get(case_id(case)))  # noqa: E731
    return [
        pytest.param(
            case, schedule, id=f"{case_id(case)}-{schedule}", marks=[] if quick(case, schedule) else pytest.mark.slow
        )
        for case, schedule in itertools.product(CASES, SCHEDULES)
    ]


@pytest.mark.parametrize(("case", "schedule"), everywhere())
def test_descent_reaches_the_teacher(case: dict[str, Any], schedule: str) -> None:
    check_descent(case, schedule, 0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=case_id)
@settings(max_examples=8)
@given(schedule=st.sampled_from(list(SCHEDULES)), seed=SEEDS)
def test_descent_reaches_the_teacher_from_anywhere_near(case: dict[str, Any], schedule: str, seed: int) -> None:
    check_descent(case, schedule, seed, steps=120)  # some starts are far away


def test_the_quick_descents_are_of_each_objective_and_schedule() -> None:
    quick = {tuple(value.id.rsplit("-", 1)) for value in everywhere() if not value.marks}
    assert set(QUICK.items()) <= quick
    assert {name.partition("-")[0] for name in QUICK} == {case["name"] for case in CASES}
    assert set(QUICK.values()) == SCHEDULES.keys() - {"sqrt"}


# --- what each gradient is


@settings(max_examples=15)
@given(SEEDS, st.sampled_from(["kl", "kl_sigma2"]))
def test_diff_instruct_descends_the_integral_of_kl(seed: int, weight: str) -> None:
    """Its gradient is that of mean_t w(t) KL(student_t | teacher_t), w(t) = 1 or sigma_t^2."""
    real = teacher_of(seed)
    student = start_near(real, seed, spread=1.0)
    lab = Lab(DiffInstruct(weight=weight, reduction="sum"), real)  # type: ignore[arg-type]
    t = torch.tensor(TIMES).double()
    mean, covariance = Gaussian(student.b, student.a @ student.a.T).noised(PROCESS, t)
    moved, still = (
        torch.distributions.MultivariateNormal(*pair) for pair in ((mean, covariance), real.noised(PROCESS, t))
    )
    w = PROCESS.noise_schedule.sigma(t).square() if weight == "kl_sigma2" else torch.ones_like(t)
    integral = (w * torch.distributions.kl_divergence(moved, still)).mean()
    for found, wanted in zip(lab.gradient(student), torch.autograd.grad(integral, (student.a, student.b)), strict=True):
        assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["diff_instruct", "dmd"])
def test_the_weight_kl_is_right_under_every_schedule(name: str, schedule: str) -> None:
    """The gradient is that of mean_t KL(student_t | teacher_t), at each position with its own alpha and sigma."""
    real = teacher_of(1)
    student = start_near(real, 1, spread=1.0)
    lab = lab_of({"name": name, "weight": "kl", "reduction": "token_mean"}, real, schedule)
    t = torch.tensor(lab.times).double()
    made = Gaussian(student.b, student.a @ student.a.T)
    moved, still = (torch.distributions.MultivariateNormal(*g.noised(lab.process, t)) for g in (made, real))
    integral = torch.distributions.kl_divergence(moved, still).mean() / (lab.process.noise_schedule.positions or 1)
    for found, wanted in zip(lab.gradient(student), torch.autograd.grad(integral, (student.a, student.b)), strict=True):
        assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def f_of(divergence: Divergence) -> Callable[[Tensor], Tensor]:
    """D_f(p | q) = E_q[f(p / q)]."""
    return {
        "reverse_kl": lambda r: -r.log(),
        "forward_kl": lambda r: r * r.log(),
        "jensen_shannon": lambda r: r * r.log() - (1 + r) * ((1 + r) / 2).log(),
        "softened_reverse_kl": lambda r: (1 + r) * ((1 + r) / (2 * r)).log(),
        "neyman": lambda r: (1 - r).square() / r,
        "squared_hellinger": lambda r: (1 - r.sqrt()).square(),
        "jeffreys": lambda r: (r - 1) * r.log(),
    }[divergence]


CONSTANT = {"neyman": 2.0, "squared_hellinger": 0.5}  # r^2 f'' / h


@pytest.mark.parametrize("divergence", DIVERGENCES)
@given(value=st.floats(0.1, 20.0))
def test_the_weight_is_the_curvature_of_f(divergence: Divergence, value: float) -> None:
    """h(r) = r^2 f''(r) / constant."""
    r = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f_of(divergence)(r).sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    h = weight_of_ratio(r.detach(), divergence)
    assert_close(r.detach().square() * curvature, CONSTANT.get(divergence, 1.0) * h, rtol=1e-7, atol=1e-9)


def quadrature(objective: Objective, real: Gaussian, t: float, count: int) -> Lab:
    """One dimension, one time, the quantiles of z and eps on a grid: expectations of any function, not of squares."""
    lab = Lab(objective, real)
    quantiles = torch.special.ndtri((torch.arange(count).double() + 0.5) / count)
    grid = torch.cartesian_prod(quantiles, quantiles)
    lab.z, lab.eps, lab.t = grid[:, :1], grid[:, 1:], torch.full((len(grid),), t).double()
    return lab


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_f_distill_descends_its_divergence(divergence: Divergence) -> None:
    """In one dimension, against the derivative of the integral of q_t f(p_t / q_t) on a fine grid."""
    real, t = Gaussian(torch.zeros(1).double(), torch.ones(1, 1).double()), 0.3
    student = Student(torch.tensor([[0.9]]), torch.tensor([0.15]))
    lab = quadrature(FDistill(divergence=divergence, weight="kl", normalise="none"), real, t, 150)
    found = torch.stack([gradient.flatten()[0] for gradient in lab.gradient(student)])

    x, time = torch.linspace(-9, 9, 4001).double(), torch.tensor([t]).double()
    alpha, sigma = PROCESS.noise_schedule.alpha(time), PROCESS.noise_schedule.sigma(time)
    density = lambda mean, variance: torch.distributions.Normal(alpha * mean, (alpha**2 * variance + sigma**2).sqrt())  # noqa: E731
    log_q = density(student.b, student.a.square().flatten()).log_prob(x)
    log_p = density(real.mean, real.covariance.flatten()).log_prob(x)
    value = torch.trapezoid(log_q.exp() * f_of(divergence)((log_p - log_q).exp()), x)
    wanted = torch.stack([g.flatten()[0] for g in torch.autograd.grad(value, (student.a, student.b))])
    assert_close(found * CONSTANT.get(divergence, 1.0), wanted, rtol=0.03, atol=1e-4)


def test_the_critic_of_moment_matching_ends_half_way() -> None:
    """Its loss is least where the fake score is the mean of the student's denoiser and the teacher's."""
    real = teacher_of(0)
    student = start_near(real, 1)
    both = whitened(0, 256, 8)
    t = torch.full((256,), 0.4).double()
    fake = noised(student.texts(both[:, :4]).detach(), both[:, 4:], t, PROCESS)
    pulled = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    roles = Exact(real, student.distribution(), pulled=pulled)  # type: ignore[arg-type]
    terms = MomentMatching().critic_terms(roles, fake, None)
    assert terms.keys() == {"denoising", "teacher"}
    (slope,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), pulled)
    assert abs(float(slope)) < 1e-12
    away = [Exact(real, student.distribution(), pulled=p) for p in (0.4, 0.5, 0.6)]
    losses = [float(sum(MomentMatching().critic_terms(roles, fake, None).values())) for roles in away]
    assert losses[1] < min(losses[0], losses[2])


# --- where objectives go the wrong way


def line(mean: float, std: float) -> Gaussian:
    """A Gaussian in one dimension."""
    return Gaussian(torch.tensor([mean]).double(), torch.tensor([[std**2]]).double())


def at(mean: float, std: float) -> Student:
    """A student in one dimension."""
    return Student(torch.tensor([[std]], dtype=torch.float64), torch.tensor([mean], dtype=torch.float64))


def on_the_line(objective: Objective, student: tuple[float, float], t: float) -> tuple[float, float]:
    """Directions of descent of mean and spread of a student (mean, std) beside the teacher N(0, 1), at one time."""
    mean, std = student
    made = at(mean, std)
    a, b = Lab(objective, line(0.0, 1.0), times=(t,)).gradient(made)
    return -float(b), -float(a)


def noise(t: float, std: float) -> tuple[float, float, float]:
    """sigma^2, and the variances V and U of teacher and student at t."""
    time = torch.tensor([t]).double()
    alpha2, sigma2 = float(PROCESS.noise_schedule.alpha(time)) ** 2, float(PROCESS.noise_schedule.sigma(time)) ** 2
    return sigma2, alpha2 + sigma2, alpha2 * std**2 + sigma2


STARTS = {"mean": st.floats(-3, 3), "std": st.floats(0.1, 8), "t": st.floats(0.01, 0.95)}


@settings(max_examples=15)
@given(mu=st.floats(-0.5, 2), **STARTS)
def test_the_flow_of_sid(mu: float, mean: float, std: float, t: float) -> None:
    """The formulas in its docstring, with their factors."""
    s2, v, u = noise(t, std)
    d_mean = -mean * s2**2 / v * ((2 * mu - 1) / u + 2 * (1 - mu) / v)
    d_std = 2 * std * s2**2 * (1 / u - 1 / v) * (mu / u + (1 - mu) / v)
    assert on_the_line(Sid(mu=mu, weight="none"), (mean, std), t) == pytest.approx((d_mean, d_std), rel=1e-6, abs=1e-9)


@settings(max_examples=15)
@given(**STARTS)
def test_the_flow_of_dmd_always_goes_the_right_way(mean: float, std: float, t: float) -> None:
    s2, v, u = noise(t, std)
    wanted = (-mean * s2 / v, std * s2 * (1 / u - 1 / v))
    assert on_the_line(Dmd(weight="none"), (mean, std), t) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@settings(max_examples=15)
@given(**STARTS)
def test_the_flow_of_fisher(mean: float, std: float, t: float) -> None:
    s2, v, u = noise(t, std)
    wanted = (-2 * mean * s2**2 / v * (1 / v - 1 / u), -2 * std * s2**2 * (1 / u - 1 / v) ** 2)
    assert on_the_line(Fisher(weight="none"), (mean, std), t) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@settings(max_examples=15)
@given(**STARTS)
def test_the_flow_of_moment_matching_is_half_that_of_dmd(mean: float, std: float, t: float) -> None:
    """Its critic stands half-way between the student's denoiser and the teacher's."""
    student = at(mean, std)
    half = Lab(MomentMatching(weight="none"), line(0.0, 1.0), times=(t,), pulled=0.5).gradient(student)
    whole = Lab(Dmd(weight="none"), line(0.0, 1.0), times=(t,)).gradient(student)
    for found, wanted in zip(half, whole, strict=True):
        assert_close(2 * found, wanted, **EXACT)


SPREADS = {  # what a divergence makes of the spread of a student that has the teacher's, but another mean
    "reverse_kl": 0,
    **dict.fromkeys(("forward_kl", "jensen_shannon", "squared_hellinger", "jeffreys"), 1),
    **dict.fromkeys(("softened_reverse_kl", "neyman"), -1),
}


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("t", [0.02, 0.3])
def test_the_flow_of_f_distill(divergence: Divergence, t: float) -> None:
    """The mean goes home from everywhere and KL falls, but the spread of a displaced student may go the wrong way."""
    lab = quadrature(FDistill(divergence=divergence, weight="kl", normalise="none"), line(0.0, 1.0), t, 60)
    for mean, std in itertools.product((0.0, 0.5, 1.0, 3.0), (0.2, 0.5, 1.0, 2.0, 5.0)):
        student = at(mean, std)
        a, b = lab.gradient(student)
        if mean:
            assert float(b) > 0
        elif std != 1.0:
            assert float(a) * (std - 1.0) > 0
        else:
            assert abs(float(a)) < 1e-9  # the teacher
            continue
        step = 1e-5 / (a.square().sum() + b.square().sum()).sqrt()
        moved = Student(student.a - step * a, student.b - step * b)
        assert kl(moved.distribution(), lab.real) < kl(student.distribution(), lab.real)
    widened = -float(lab.gradient(at(1.0, 1.0))[0])
    assert widened * SPREADS[divergence] > 1e-4 or (SPREADS[divergence] == 0 and abs(widened) < 1e-9)


@pytest.mark.parametrize("offset", [0.5, 1.0])
def test_forward_kl_widens_a_displaced_student(offset: float) -> None:
    """Up to the variance V + (m - m_teacher)^2 of noised states, which covers both."""
    lab = quadrature(FDistill(divergence="forward_kl", weight="kl", normalise="none"), line(0.0, 1.0), 0.3, 100)
    alpha2, s2 = 1 - noise(0.3, 1.0)[0], noise(0.3, 1.0)[0]
    for share, sign in ((0.6, 1), (1.4, -1)):
        u = 1.0 + share * alpha2 * offset**2
        assert sign * -float(lab.gradient(at(offset, ((u - s2) / alpha2) ** 0.5))[0]) > 0


def descended(objective: Objective, student: tuple[float, float], t: float, steps: int = 60) -> tuple[float, float]:
    """Mean and std after descent at one time."""
    made = at(*student)
    Lab(objective, line(0.0, 1.0), times=(t,)).descend(made, steps=steps)
    return float(made.b.detach()), float(made.a.detach())


LOW, HIGH = 0.02, 0.9


@pytest.mark.parametrize("mu", [1.1, 1.2, 1.5])
def test_sid_with_mu_above_1_drives_an_over_dispersed_student_away(mu: float) -> None:
    """The thresholds U / V = mu / (mu - 1) for the spread and (2 mu - 1) / (2 (mu - 1)) for the mean, at low noise."""
    s2, v, _ = noise(LOW, 1.0)
    std_at = lambda ratio: ((ratio * v - s2) / (v - s2)) ** 0.5  # noqa: E731
    for factor, sign in ((0.9, -1), (1.1, 1)):
        spread = on_the_line(Sid(mu=mu, weight="none"), (0.0, std_at(factor * mu / (mu - 1))), LOW)[1]
        mean = on_the_line(Sid(mu=mu, weight="none"), (1.0, std_at(factor * (2 * mu - 1) / (2 * (mu - 1)))), LOW)[0]
        assert sign * spread > 0
        assert sign * mean > 0


def test_an_over_dispersed_student_comes_home_where_it_may() -> None:
    """Six times too wide: mu = 1.2 sends it away at low noise only; 1 and 0.5 do not, nor does DMD."""
    start = (1.0, 6.0)
    mean, std = descended(Sid(mu=1.2, weight="none"), start, LOW)
    assert mean > start[0]
    assert std > start[1]
    mean, std = descended(Sid(mu=1.2, weight="none"), start, HIGH)
    assert abs(mean) < start[0]
    assert std < start[1]
    for objective in (Sid(mu=1.0, weight="none"), Sid(mu=0.5, weight="none"), Dmd(weight="none")):
        mean, std = descended(objective, start, LOW)
        assert abs(mean) < start[0]
        assert std < start[1]


@pytest.mark.parametrize("mu", [0.0, 0.2, 0.4])
def test_sid_with_mu_below_a_half_drives_the_mean_of_a_narrow_student_away(mu: float) -> None:
    """U / V below (1 - 2 mu) / (2 (1 - mu)); its spread grows all the same."""
    s2, v, _ = noise(LOW, 1.0)
    threshold = (1 - 2 * mu) / (2 * (1 - mu))
    for factor, sign in ((0.9, 1), (1.1, -1)):
        std = ((factor * threshold * v - s2) / (v - s2)) ** 0.5
        mean, spread = on_the_line(Sid(mu=mu, weight="none"), (1.0, std), LOW)
        assert sign * mean > 0
        assert spread > 0


@pytest.mark.parametrize(("weight", "mu"), [*itertools.product(["l1", "none"], [0.5, 1.0])])
def test_sid_between_a_half_and_1_goes_the_right_way_in_four_dimensions(weight: Weight, mu: float) -> None:
    """Over a net of students too narrow, too wide and displaced, at every noise level: KL falls along the gradient."""
    real = teacher_of(3)
    root = torch.linalg.cholesky(real.covariance)
    for scale, offset, t in itertools.product((0.1, 0.7, 1.5, 5.0), (0.1, 1.0, 3.0), TIMES):
        student = Student(scale * root, real.mean + offset * root.sum(1))
        a, b = Lab(Sid(mu=mu, weight=weight), real, times=(t,), count=128).gradient(student)
        step = 1e-5 / (a.square().sum() + b.square().sum()).sqrt()
        moved = Student(student.a - step * a, student.b - step * b)
        assert kl(moved.distribution(), real) < kl(student.distribution(), real), (scale, offset, t)


def test_the_bias_of_fisher() -> None:
    """Wide students come home, one of the right spread keeps any mean, narrow ones collapse and run away."""
    mean, std = descended(Fisher(weight="none"), (1.0, 3.0), 0.3, steps=150)
    assert std == pytest.approx(1.0, abs=0.15)
    assert abs(mean) < 1.0
    a, b = on_the_line(Fisher(weight="none"), (2.0, 1.0), 0.3)
    assert abs(a) < 1e-12
    assert abs(b) < 1e-12
    mean, std = descended(Fisher(weight="none"), (1.0, 0.7), 0.3, steps=150)
    assert mean > 2.0
    assert abs(std) < 0.1
