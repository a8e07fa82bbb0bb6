"""Kernels, compiled, beside what a competent person would first write."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.measure import peak_bytes
from benchmarks.reference import (
    adversarial_bce as plain_bce,
)
from benchmarks.reference import (
    denoising_mse as plain_denoising,
)
from benchmarks.reference import (
    ema as plain_ema,
)
from benchmarks.reference import (
    linear_cross_entropy as plain_linear,
)
from benchmarks.reference import (
    nearest_token as plain_nearest,
)
from benchmarks.reference import (
    noising as plain_noising,
)
from benchmarks.reference import (
    score_distillation as plain_score,
)
from benchmarks.versus import Case
from dlkit.kernels._twin import compiled
from dlkit.kernels.adversarial_bce import adversarial_bce
from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.kernels.linear_cross_entropy import linear_cross_entropy
from dlkit.kernels.nearest_token import nearest_token
from dlkit.kernels.noising import noising
from dlkit.kernels.score_distillation import score_distillation
from dlkit.training.ema import Ema
from dlkit.training.memory import hand_back_freed_memory

STATES = (64, 128, 128)
SIZE = 4 * 64 * 128 * 128
"""Bytes of such a state."""


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Compiled, and both sides with what glibc comes to by itself, whatever ran before."""
    hand_back_freed_memory()
    with compiled():
        yield


def states(device: torch.device, count: int = 3, learns: bool = True) -> list[Tensor]:
    found = (torch.randn(STATES, generator=torch.Generator().manual_seed(k)) for k in range(count))
    return [state.to(device).requires_grad_(learns) for state in found]


def generated(device: torch.device) -> Tensor:
    """The mask of texts whose first 40 positions are given."""
    return torch.arange(STATES[1], device=device).expand(STATES[:2]) >= 40


def test_score_distillation(versus, device, quick):
    three, mask = states(device), generated(device)
    bare = [state.detach() for state in three]

    def with_gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, three)

    def ours() -> tuple[Tensor, ...]:
        return with_gradients(score_distillation(*three, mask, mu=1.2))

    def plain() -> tuple[Tensor, ...]:
        return with_gradients(plain_score.score_distillation(*three, mask, 1.2))

    def copies() -> list[Tensor]:
        return [state.clone() for state in bare]

    def bare_pass() -> list[Tensor]:
        for state in bare:
            state.sum()
        return copies()

    assert_close(ours(), plain(), rtol=1e-4, atol=1e-9)
    what = "score_distillation, forward and backward, [64, 128, 128] fp32"
    versus(what, ours=ours, reference=plain, bar=3.0, rounds=41, bytes=6 * SIZE)
    versus(
        f"{what}, beside a bare pass",
        ours=ours,
        reference=bare_pass,
        bar=1 / 1.5,
        rounds=41,
        bytes=6 * SIZE,
        note="the bare pass reads the three states, then reads them and writes three, for the weight comes first",
    )
    if not quick:
        note = "as if the second reading cost nothing"
        versus(f"{what}, beside copies alone", ours=ours, reference=copies, rounds=41, bytes=6 * SIZE, note=note)


def test_nearest_token(versus, device, quick):
    n, v, d = (3072, 16384, 128) if quick else (8192, 30522, 128)  # what bytes are used for, where they are
    generator = torch.Generator().manual_seed(0)
    x, table = (torch.randn(rows, d, generator=generator).to(device) for rows in (n, v))
    scores = torch.empty(n, v, device=device)

    def ours() -> Tensor:
        return nearest_token(x, table)

    def matmul() -> None:
        torch.mm(x, table.T, out=scores)

    found, flops = ours(), 2.0 * n * v * d
    assert (found == plain_nearest.nearest_token(x, table)).float().mean() > 0.999  # near ties may fall either way
    what = f"nearest_token, N {n}, V {v}, d {d} fp32"
    note = "the matrix product alone, its memory there before"
    versus(f"{what}, beside its matmul", ours=ours, reference=matmul, bar=1 / 1.25, flops=flops, note=note)
    full = scores.nbytes
    del scores
    versus.compare(
        f"{what}, extra memory beside the matrix of scores",
        ours=peak_bytes(ours, device),
        reference=full,
        bar=min(64e6 / full, 0.25),
        note="at most 64 MB",
    )


def test_linear_cross_entropy(versus, device, quick):
    n, v, d = (2048, 16384, 128) if quick else (8192, 30522, 128)
    generator = torch.Generator().manual_seed(0)
    x, table, bias, weights = (
        torch.randn(shape, generator=generator).mul(0.3).to(device).requires_grad_()
        for shape in ((n, d), (v, d), (v,), (n,))
    )
    ids = torch.randint(v, (n,), generator=generator).to(device)
    weights = weights.detach().square() / n  # of rows, as times have them

    def with_gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((loss * weights).sum(), (x, table, bias))

    def ours() -> tuple[Tensor, ...]:
        return with_gradients(linear_cross_entropy(x, table, bias, ids))

    def plain() -> tuple[Tensor, ...]:
        return with_gradients(plain_linear.linear_cross_entropy(x, table, bias, ids))

    for found, wanted in zip(ours(), plain(), strict=True):
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    what = f"linear_cross_entropy, forward and backward, N {n}, V {v}, d {d} fp32"
    reference = Case("reference", plain, warm=lambda: None)  # called above, as ours
    case = Case(what, ours, 1 / 1.1, flops=6.0 * n * v * d, note="gradients equal to 1e-5", warm=lambda: None)
    versus.several(reference, [case])
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):  # torch 2.13
        own = lambda: library(x, table, bias, ids)  # noqa: E731
        versus.several(reference, [Case(f"not ours: {what}, PyTorch's own in chunks", own)])
    memory = [peak_bytes(work, device, leaves_nothing=True) for work in (ours, plain)]
    versus.compare(f"{what}, peak memory", ours=memory[0], reference=memory[1], bar=1 / 8)


def library(x: Tensor, table: Tensor, bias: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    """PyTorch's own in chunks, which has the mean over rows only."""
    options = torch.nn.LinearCrossEntropyOptions()  # type: ignore[attr-defined]
    loss = torch.nn.functional.linear_cross_entropy(x, table, ids, linear_bias=bias, options=options)  # type: ignore[attr-defined]
    return torch.autograd.grad(loss, (x, table, bias))


def test_denoising_mse(versus, device, quick):
    if quick:
        pytest.skip("told, not held")
    (x0, target), mask = states(device, 2), generated(device)
    target = target.detach()
    versus(
        "denoising_mse, forward and backward, [64, 128, 128] fp32",
        ours=lambda: torch.autograd.grad(denoising_mse(x0, target, mask).mean(), x0),
        reference=lambda: torch.autograd.grad(plain_denoising.denoising_mse(x0, target, mask).mean(), x0),
        rounds=21,
        bytes=5 * SIZE,
    )


def test_noising(versus, device, quick):
    if quick:
        pytest.skip("told, not held")
    (x0, eps, anchor), mask = states(device, 3, learns=False), generated(device)
    alpha, sigma = torch.rand(2, len(x0), device=device)
    args = x0, eps, alpha, sigma, anchor, mask
    assert_close(noising(*args), plain_noising.noising(*args))
    versus(
        "noising, [64, 128, 128] fp32",
        ours=lambda: noising(*args),
        reference=lambda: plain_noising.noising(*args),
        rounds=21,
        bytes=4 * SIZE,
    )


def test_adversarial_bce(versus, device, quick):
    if quick:
        pytest.skip("told, not held")
    logits = torch.randn(64, 128, device=device).requires_grad_()
    versus(
        "adversarial_bce, forward and backward, [64, 128] fp32",
        ours=lambda: torch.autograd.grad(adversarial_bce(logits, True).sum(), logits),
        reference=lambda: torch.autograd.grad(plain_bce.adversarial_bce(logits, True).sum(), logits),
        rounds=41,
        note="too small to compile for",
    )


def test_ema(versus, device, quick):
    if quick:
        pytest.skip("told, not held")
    network = nn.Sequential(*(nn.Linear(256, 256) for _ in range(100))).to(device)
    weights = [parameter.detach() for parameter in network.parameters()]
    shadow, average = [weight.clone() for weight in weights], Ema(network, 0.99, warmup=False)
    versus(
        "EMA over 200 tensors, 6.6 M numbers fp32",
        ours=lambda: average.tick(network),
        reference=lambda: plain_ema.ema(shadow, weights, 0.99),
        rounds=21,
        bytes=3 * 4 * sum(weight.numel() for weight in weights),
    )
