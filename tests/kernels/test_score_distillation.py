"""Loss (4) and its closed-form gradients against autograd of the loss written out, sample by sample, in float64."""

import inspect
import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dlkit.kernels import score_distillation as module
from dlkit.kernels.score_distillation import (
    Reduction,
    Weight,
    score_distillation,
    score_distillation_gradients,
)

WEIGHTS: tuple[Weight, ...] = ("l1", "none")
REDUCTIONS: tuple[Reduction, ...] = ("mean", "token_mean", "sum")
B, L, D = 4, 5, 3
EXACT = {"rtol": 1e-10, "atol": 1e-13}


@dataclass
class Case:
    """Inputs of the loss; the masks of the four samples: all, some, one, no position."""

    x: Tensor
    x0_teacher: Tensor
    x0_fake: Tensor
    mask: Tensor
    sample_weight: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.x0_teacher, self.x0_fake


def case(dtype: torch.dtype = torch.float64, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(B, L, D, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
    return Case(*(state.requires_grad_() for state in states), mask, torch.tensor([0.3, 1.0, 0.7, 0.9]).double())


def naive(
    x: Tensor, x0_teacher: Tensor, x0_fake: Tensor, mask: Tensor, mu: float, weight: str, reduction: str, factor: Tensor
) -> Tensor:
    """(1 - mu) w |d|^2 + w d.(x0_fake - x) over the masked rows of each sample; w is a constant, times a factor."""
    total = torch.zeros((), dtype=x.dtype)
    for i, rows in enumerate(mask):
        if not rows.any():
            continue
        e, f, g = x[i][rows], x0_teacher[i][rows], x0_fake[i][rows]
        d = f - g
        w = float(factor[i]) * {"l1": 1.0 / float((e - f).detach().abs().mean()), "none": 1.0}[weight]
        share = {"mean": e.numel(), "token_mean": len(e), "sum": 1}[reduction]
        total = total + w * ((1 - mu) * (d * d).sum() + (d * (g - e)).sum()) / share
    return total / len(x)


def ours(case: Case, mu: float = 1.2, weight: Weight = "l1", reduction: Reduction = "mean", detach: bool = False):
    settings = {"mu": mu, "weight": weight, "reduction": reduction, "detach_scores": detach}
    return score_distillation(*case.tensors(), case.mask, sample_weight=case.sample_weight, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("weight", "reduction"), [*itertools.product(WEIGHTS, REDUCTIONS)])
@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 1.2])
def test_equals_the_loss_written_out(mu: float, weight: Weight, reduction: Reduction) -> None:
    data = case()
    wanted = naive(*data.tensors(), data.mask, mu, weight, reduction, data.sample_weight)
    loss = ours(data, mu, weight, reduction)
    assert_close(loss, wanted, **EXACT)
    grads = torch.autograd.grad(3.0 * loss, data.tensors())
    for grad, expected in zip(grads, torch.autograd.grad(3.0 * wanted, data.tensors()), strict=True):
        assert_close(grad, expected, **EXACT)
    single = case(torch.float32)
    loss = ours(single, mu, weight, reduction)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), wanted, rtol=1e-6, atol=1e-6)
    for grad, expected in zip(torch.autograd.grad(3.0 * loss, single.tensors()), grads, strict=True):
        assert_close(grad.double(), expected, rtol=1e-5, atol=1e-6)


def test_gradcheck() -> None:
    """Without the weight l1, which is held constant and which finite differences would see change."""
    data, factor = case(), case().sample_weight.float()
    assert torch.autograd.gradcheck(
        lambda *states: score_distillation(*states, data.mask, mu=1.2, weight="none", sample_weight=factor),
        data.tensors(),
    )


@pytest.mark.parametrize("weight", WEIGHTS)
def test_no_sample_weight_is_one_for_each(weight: Weight) -> None:
    data = case()
    plain = score_distillation(*data.tensors(), data.mask, mu=0.7, weight=weight)
    ones = score_distillation(*data.tensors(), data.mask, mu=0.7, weight=weight, sample_weight=torch.ones(B))
    assert torch.equal(plain, ones)


def test_weights_of_positions() -> None:
    """Where all positions of a sample have its weight it is as before; where one has 0, so is its gradient."""
    data = case()
    each = data.sample_weight[:, None].expand(B, L).clone()
    assert_close(ours(Case(*data.tensors(), data.mask, each)), ours(data))
    each[0, 1] = 0.0
    (grad,) = torch.autograd.grad(ours(Case(*data.tensors(), data.mask, each)), data.x)
    assert (grad[0, 1] == 0).all() and (grad[0, 0] != 0).all()


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_detached_scores_leave_the_gradient_of_dmd(mu: float, weight: Weight) -> None:
    data = case()
    loss = ours(data, mu, weight, "mean", detach=True)
    assert_close(loss, ours(data, mu, weight), **EXACT)
    grad, *none = torch.autograd.grad(loss, data.tensors(), allow_unused=True)
    assert none == [None, None]
    for i, rows in enumerate(data.mask):
        e, f, g = (state[i][rows] for state in data.tensors())
        w = data.sample_weight[i] * {"l1": 1 / (e - f).abs().mean(), "none": 1.0}[weight]
        assert_close(grad[i][rows], w * (g - f) / max(e.numel(), 1) / B, **EXACT)
        assert not grad[i][~rows].any()


def gaussian_denoiser(mean: Tensor, covariance: Tensor, alpha: float, sigma: float):
    """E[x0 | x_t] = m + alpha S (alpha^2 S + sigma^2)^-1 (x_t - alpha m) for x0 ~ N(m, S)."""
    gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(len(mean)).double())
    return lambda x_t: mean.to(x_t.dtype) + (x_t - alpha * mean.to(x_t.dtype)) @ gain.T.to(x_t.dtype)


@pytest.mark.parametrize("mu", [0.5, 1.0, 1.2])
@pytest.mark.parametrize("weight", ["l1", "none"])
def test_gradient_through_the_inputs_of_gaussian_scores(mu: float, weight: Weight) -> None:
    """x = theta + z is noised and given to teacher and fake score in closed form; d loss / d theta is exact."""
    alpha, sigma = 0.8, 0.6
    generator = torch.Generator().manual_seed(1)
    z, eps = (torch.randn(B, L, D, generator=generator, dtype=torch.float64) for _ in range(2))
    root = torch.randn(D, D, generator=generator, dtype=torch.float64)
    teacher = gaussian_denoiser(torch.tensor([1.0, -2.0, 0.5]).double(), root @ root.T, alpha, sigma)
    fake = gaussian_denoiser(torch.tensor([0.2, 0.1, 0.0]).double(), torch.eye(D).double(), alpha, sigma)
    mask = case().mask

    def gradient(dtype: torch.dtype, loss_of) -> Tensor:
        theta = torch.tensor([0.3, 0.2, -0.1], dtype=dtype, requires_grad=True)
        x = theta + z.to(dtype)
        x_t = alpha * x + sigma * eps.to(dtype)
        return torch.autograd.grad(loss_of(x, teacher(x_t), fake(x_t)), theta)[0]

    wanted = gradient(torch.float64, lambda *s: naive(*s, mask, mu, weight, "mean", torch.ones(B)))
    grad = gradient(torch.float64, lambda *s: score_distillation(*s, mask, mu=mu, weight=weight))
    assert_close(grad, wanted, **EXACT)
    grad = gradient(torch.float32, lambda *s: score_distillation(*s, mask, mu=mu, weight=weight))
    assert_close(grad.double(), wanted, rtol=1e-6, atol=1e-6)


def test_expectation_at_the_optimal_fake_score() -> None:
    """With x0_fake = E[x | x_t] the second term vanishes on average: E[L] = (1 - mu) E|d|^2 (SiD, eq. 18-23).

    Gauss-Hermite quadrature is exact here, as the integrand is quadratic; its weights go in as ``sample_weight``.
    """
    nodes, weights = hermite(6)
    z, eps = torch.cartesian_prod(nodes, nodes).unbind(1)
    weight = torch.cartesian_prod(weights, weights).prod(1)
    alpha, sigma = 0.6, 0.8
    x = 0.7 + 1.5 * z
    x_t = (alpha * x + sigma * eps)[:, None, None]
    one = torch.ones(1).double()
    fake = gaussian_denoiser(0.7 * one, 1.5**2 * one[:, None], alpha, sigma)(x_t)
    teacher = gaussian_denoiser(-one, 0.5 * one[:, None], alpha, sigma)(x_t)
    fisher = (weight * (teacher - fake).square().flatten()).sum()
    for mu in (0.0, 0.5, 1.0, 1.2):
        loss = score_distillation(
            x[:, None, None],
            teacher,
            fake,
            torch.ones(len(x), 1).bool(),
            mu=mu,
            weight="none",
            reduction="sum",
            sample_weight=weight * len(x),
        )
        assert_close(loss, (1 - mu) * fisher, rtol=1e-10, atol=1e-12)


def hermite(degree: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the mean of a polynomial under N(0, 1), by Golub & Welsch's eigenvalue problem."""
    off = torch.tensor([math.sqrt(k) for k in range(1, degree)]).double()
    values, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return values, vectors[0].square()


@pytest.mark.parametrize("weight", WEIGHTS)
def test_what_stands_at_given_positions_does_not_matter(weight: Weight) -> None:
    data, other = case(), case()
    free = data.mask[..., None]
    for state in other.tensors():
        state.data = torch.where(free, state.data, state.data * 100 + 7)
    assert torch.equal(ours(data, weight=weight), ours(other, weight=weight))
    grads = torch.autograd.grad(ours(data, weight=weight), data.tensors())
    for grad, twin in zip(grads, torch.autograd.grad(ours(other, weight=weight), other.tensors()), strict=True):
        assert torch.equal(grad, twin)
        assert not (grad * ~free).any()


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_order_of_the_samples_does_not_matter(weight: Weight) -> None:
    data, order = case(), torch.tensor([2, 0, 3, 1])
    states = [state.detach()[order].requires_grad_() for state in data.tensors()]
    moved = Case(*states, data.mask[order], data.sample_weight[order])
    assert_close(ours(moved, weight=weight), ours(data, weight=weight), **EXACT)
    grads = torch.autograd.grad(ours(data, weight=weight), data.tensors())
    for grad, twin in zip(torch.autograd.grad(ours(moved, weight=weight), moved.tensors()), grads, strict=True):
        assert_close(grad, twin[order], **EXACT)


@pytest.mark.parametrize(("weight", "reduction"), [*itertools.product(WEIGHTS, REDUCTIONS)])
def test_nothing_generated_is_zero(weight: Weight, reduction: Reduction) -> None:
    data = case()
    data.mask = torch.zeros_like(data.mask)
    loss = ours(data, 1.2, weight, reduction)
    assert loss == 0
    assert all(not grad.any() for grad in torch.autograd.grad(loss, data.tensors()))


def test_a_perfect_student_is_not_divided_by_zero() -> None:
    data = case()
    loss = score_distillation(data.x, data.x.detach().clone(), data.x0_fake, data.mask, mu=1.2)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, data.x)[0]).all()


@pytest.mark.parametrize("weight", WEIGHTS)
def test_half_precision_is_summed_in_float32(weight: Weight) -> None:
    """The bf16 inputs, taken as exact, give the float64 result; the gradients are rounded to bf16 once."""
    half = case(torch.bfloat16)
    wide = Case(*(s.detach().double().requires_grad_() for s in half.tensors()), half.mask, half.sample_weight)
    loss, wanted = ours(half, weight=weight), ours(wide, weight=weight)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-6)
    grads = torch.autograd.grad(wanted, wide.tensors())
    for grad, expected in zip(torch.autograd.grad(loss, half.tensors()), grads, strict=True):
        assert grad.dtype == torch.bfloat16
        assert_close(grad.double(), expected, rtol=2**-8, atol=1e-6)


def test_a_second_derivative_is_refused() -> None:
    data = case()
    (grad,) = torch.autograd.grad(ours(data) ** 2, data.x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_gradient_of_one_saves_a_pass_where_no_device_must_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is not read, and the result is the same."""
    assert module._is_one(torch.ones(())) and not module._is_one(torch.tensor(2.0))
    assert not module._is_one(torch.ones((), device="meta"))
    found = torch.autograd.grad(ours(data := case()), data.tensors())
    monkeypatch.setattr(module, "_is_one", lambda number: False)
    assert_close(torch.autograd.grad(ours(data), data.tensors()), found, rtol=0, atol=0)


def test_gradients_can_be_taken_twice() -> None:
    loss = ours(data := case())
    first = torch.autograd.grad(loss, data.tensors(), torch.tensor(3.0).double(), retain_graph=True)
    second = torch.autograd.grad(loss, data.tensors(), retain_graph=True)
    for one, other in zip(first, second, strict=True):
        assert_close(one, 3.0 * other, **EXACT)
    for _ in range(3):  # what is kept is not what autograd adds to
        loss.backward(retain_graph=True)
    for state, other in zip(data.tensors(), second, strict=True):
        assert_close(state.grad, 3.0 * other, **EXACT)


@pytest.mark.parametrize("detach", [False, True])
def test_the_gradients_without_a_graph(detach: bool) -> None:
    data = case()
    settings = {"mu": 1.2, "sample_weight": data.sample_weight, "detach_scores": detach}
    loss, *grads = score_distillation_gradients(*data.tensors(), data.mask, **settings)  # type: ignore[arg-type]
    assert not loss.requires_grad
    wanted = ours(data, detach=detach)
    assert_close(loss, wanted.detach())
    assert_close(grads, list(torch.autograd.grad(wanted, data.tensors(), allow_unused=True)))
    assert (grads[1] is None) is (grads[2] is None) is detach


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    data = case()
    ours(Case(data.x, data.x0_teacher.detach(), data.x0_fake.detach(), data.mask, data.sample_weight)).backward()
    assert data.x.grad is not None and data.x0_teacher.grad is None and data.x0_fake.grad is None


@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_compiled_twin(dtype: torch.dtype, agrees) -> None:
    def loss(x: Tensor, x0_teacher: Tensor, x0_fake: Tensor, mask: Tensor, weight: Weight, factor: Tensor) -> Tensor:
        return score_distillation(x, x0_teacher, x0_fake, mask, mu=1.2, weight=weight, sample_weight=factor)

    small = case(dtype)
    agrees(loss, (*small.tensors(), small.mask, "none", small.sample_weight))
    for b, l, d in ((2, 9, 16), (5, 3, 33)):
        states = [torch.randn(b, l, d).to(dtype).requires_grad_() for _ in range(3)]
        agrees(loss, (*states, torch.rand(b, l) < 0.7, "l1", torch.rand(b)))
        agrees(loss, (*states, torch.rand(b, l) < 0.7, "l1", torch.rand(b, l)))


@pytest.mark.compile
def test_it_can_be_a_part_of_a_graph() -> None:
    """Forward and backward: neither looks at a value."""

    def gradients(one: Case, scale: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(scale * score_distillation(*one.tensors(), one.mask, mu=1.2), one.tensors())

    def graph(x: Tensor, teacher: Tensor, fake: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
        return scale * score_distillation(x, teacher, fake, mask, mu=1.2)

    one, scale = case(), torch.tensor(1.0).double()
    found = torch.compile(graph, fullgraph=True, backend="aot_eager")(*one.tensors(), one.mask, scale)
    for ours, wanted in zip(torch.autograd.grad(found, one.tensors()), gradients(one, scale), strict=True):
        assert_close(ours, wanted, **EXACT)


@pytest.mark.parametrize("function", [score_distillation, score_distillation_gradients])
@pytest.mark.parametrize("wrong", [{"weight": "l2"}, {"reduction": "average"}])
def test_what_is_not_known_is_refused(function, wrong: dict[str, str]) -> None:
    data = case()
    with pytest.raises(ValueError, match="is none of "):
        inspect.unwrap(function)(*data.tensors(), data.mask, mu=1.0, **wrong)
