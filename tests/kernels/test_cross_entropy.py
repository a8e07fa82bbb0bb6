"""Cross-entropy with one gradient in memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from dlkit.kernels import cross_entropy as module
from dlkit.kernels.cross_entropy import cross_entropy
from live_memory import LiveMemory


@given(n=st.integers(1, 7), v=st.integers(1, 40), size=st.floats(0.0, 1e3), seed=st.integers(0, 99))
def test_it_is_pytorchs(n: int, v: int, size: float, seed: int) -> None:
    """And so is its gradient."""
    generator = torch.Generator().manual_seed(seed)
    logits = (size * torch.randn(n, v, generator=generator)).double().requires_grad_()
    ids, weights = torch.randint(v, (n,), generator=generator), torch.rand(n, generator=generator).double()
    wanted = F.cross_entropy(logits, ids, reduction="none")
    (slope,) = torch.autograd.grad((weights * wanted).sum(), logits)
    found = cross_entropy(logits, ids)
    assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert_close(torch.autograd.grad((weights * found).sum(), logits)[0], slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("elements", [1, 7, 1 << 20])
def test_pieces_change_nothing(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, ids = torch.randn(5, 7), torch.tensor([0, 6, 3, 3, 1])
    whole = cross_entropy(logits, ids)
    monkeypatch.setattr(module, "ELEMENTS", elements)
    assert_close(cross_entropy(logits, ids), whole, rtol=1e-6, atol=1e-6)


def test_half_precision_is_summed_in_full() -> None:
    logits = torch.randn(4, 5000).bfloat16().requires_grad_()
    ids = torch.tensor([3, 0, 4999, 7])
    found = cross_entropy(logits, ids)
    assert_close(found, F.cross_entropy(logits.float(), ids, reduction="none"))
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


def test_only_the_gradient_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ELEMENTS", 1000)
    n, v = 64, 1000
    logits, ids = torch.randn(n, v, requires_grad=True), torch.zeros(n, dtype=torch.long)
    with LiveMemory() as memory:
        loss = cross_entropy(logits, ids).sum()
        forward = memory.peak
        loss.backward()
    assert forward < 1.1 * n * v * 4  # the logits
    assert memory.peak < 2.1 * n * v * 4
