"""Cross-entropy without logits against PyTorch's with them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from dlkit.kernels.linear_cross_entropy import linear_cross_entropy
from live_memory import LiveMemory


def case(n: int, v: int, d: int, seed: int = 0, size: float = 1.0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x, table, bias = (torch.randn(shape, generator=generator).mul(size).to(dtype) for shape in ((n, d), (v, d), (v,)))
    ids = torch.randint(v, (n,), generator=generator)
    return x.requires_grad_(), table.requires_grad_(), bias.requires_grad_(), ids


def usual(x: Tensor, table: Tensor, bias: Tensor | None, ids: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, table, bias), ids, reduction="none")


@settings(max_examples=60)
@given(
    st.integers(1, 9), st.integers(1, 30), st.integers(1, 5), st.integers(0, 10**6), st.integers(1, 99), st.floats(0, 9)
)
def test_it_is_pytorchs_whatever_the_tiles(n: int, v: int, d: int, seed: int, elements: int, size: float) -> None:
    """And so are its gradients."""
    x, table, bias, ids = case(n, v, d, seed, size)
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed)).double()
    wanted, found = usual(x, table, bias, ids), linear_cross_entropy(x, table, bias, ids, elements=elements)
    assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    slopes = [torch.autograd.grad((weights * loss).sum(), (x, table, bias)) for loss in (found, wanted)]
    for one, other in zip(*slopes, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradcheck() -> None:
    x, table, bias, ids = case(5, 7, 3)
    assert torch.autograd.gradcheck(lambda *a: linear_cross_entropy(*a, ids, elements=12), (x, table, bias))
    assert torch.autograd.gradcheck(lambda *a: linear_cross_entropy(*a, None, ids, elements=12), (x, table))


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    x, table, bias, ids = case(5, 7, 3)
    loss = linear_cross_entropy(x.detach(), table, bias.detach(), ids).sum()
    loss.backward()
    assert x.grad is None and bias.grad is None and table.grad is not None


def test_single_precision_to_1e_5() -> None:
    """At a size of many tiles; gradients are of a mean."""
    x, table, bias, ids = case(500, 3000, 32, dtype=torch.float32)
    wanted, found = usual(x, table, bias, ids), linear_cross_entropy(x, table, bias, ids, elements=1 << 16)
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(found.mean(), (x, table, bias)),
        torch.autograd.grad(wanted.mean(), (x, table, bias)),
        strict=True,
    ):
        assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


def test_half_precision_is_summed_in_full() -> None:
    """As exact as the usual way with the same logits."""
    x, table, bias, ids = case(40, 900, 16, dtype=torch.bfloat16)
    found = linear_cross_entropy(x, table, bias, ids, elements=2000)
    wanted = F.cross_entropy(F.linear(x, table, bias).float(), ids, reduction="none")
    assert found.dtype == torch.float32
    assert_close(found, wanted, rtol=2**-7, atol=2**-7)
    exact = torch.autograd.grad(usual(x.double(), table.double(), bias.double(), ids).sum(), (x, table, bias))
    for one, other in zip(torch.autograd.grad(found.sum(), (x, table, bias)), exact, strict=True):
        assert one.dtype == torch.bfloat16
        assert_close(one.float(), other.float(), rtol=0, atol=0.02 * float(other.abs().max()))


def test_under_autocast_products_are_coarse_and_losses_are_not() -> None:
    x, table, bias, ids = case(40, 900, 16, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cross_entropy(x, table, bias, ids)
        wanted = usual(x, table, bias, ids)
        exact = usual(x.double(), table.double(), bias.double(), ids)
    assert found.dtype == wanted.dtype == torch.float32
    assert (found - wanted).abs().max() <= 2 * (wanted - exact).abs().max()
    slopes = torch.autograd.grad(found.sum(), (x, table, bias))
    assert all(slope.dtype == torch.float32 for slope in slopes)


def test_logits_far_from_zero() -> None:
    x, table, bias, ids = case(6, 50, 3, size=300.0, dtype=torch.float32)
    found = linear_cross_entropy(x, table, bias, ids, elements=40)
    assert_close(found, usual(x, table, bias, ids), rtol=1e-5, atol=1e-2)
    assert torch.isfinite(torch.autograd.grad(found.sum(), x)[0]).all()


def test_tokens_that_a_bias_forbids() -> None:
    """Whole tiles of them too, the first among them."""
    x, table, bias, ids = case(6, 50, 3)
    bias = torch.where(torch.arange(50) < 30, -torch.inf, bias.detach())
    ids = ids.remainder(20) + 30
    found, wanted = linear_cross_entropy(x, table, bias, ids, elements=40), usual(x, table, bias, ids)
    assert_close(found, wanted)
    for one, other in zip(
        torch.autograd.grad(found.sum(), (x, table)), torch.autograd.grad(wanted.sum(), (x, table)), strict=True
    ):
        assert_close(one, other)


def test_the_logits_are_never_all_there() -> None:
    n, v, d = 512, 2000, 8
    x, table, bias, ids = case(n, v, d, dtype=torch.float32)
    with LiveMemory() as memory:
        linear_cross_entropy(x, table, bias, ids, elements=20_000).sum().backward()
    assert memory.largest <= max(20_000, v * d)
    assert memory.peak < n * v * 4 / 8


def test_a_second_derivative_is_refused() -> None:
    x, table, bias, ids = case(5, 7, 3)
    (grad,) = torch.autograd.grad(linear_cross_entropy(x, table, bias, ids).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.compile
@pytest.mark.slow
def test_it_can_be_a_part_of_a_graph() -> None:
    x, table, bias, ids = case(9, 50, 4, dtype=torch.float32)
    graph = torch.compile(lambda *a: linear_cross_entropy(*a, elements=120), fullgraph=True)
    found, wanted = graph(x, table, bias, ids), usual(x, table, bias, ids)
    assert_close(found, wanted)
    assert_close(torch.autograd.grad(found.sum(), table), torch.autograd.grad(wanted.sum(), table))


def test_autocast_leaves_float64_alone() -> None:
    x, table, bias, ids = case(9, 50, 4)
    assert x.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cross_entropy(x, table, bias, ids)
    assert_close(found, usual(x, table, bias, ids), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wide", [0, 1, 2], ids=["states", "table", "bias"])
@pytest.mark.parametrize("autocast", [False, True])
def test_one_in_float64_is_enough(wide: int, autocast: bool) -> None:
    x, table, bias, ids = case(7, 30, 4, dtype=torch.float32)
    three = [each.detach().to(torch.float64 if k == wide else torch.float32) for k, each in enumerate((x, table, bias))]
    for each in three:
        each.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = linear_cross_entropy(*three, ids)
    wanted = torch.nn.functional.cross_entropy(
        three[0].double() @ three[1].double().T + three[2].double(), ids, reduction="none"
    )
    torch.testing.assert_close(found, wanted)
    slopes = zip(*(torch.autograd.grad(loss.sum(), three) for loss in (found, wanted)), strict=True)
    for (own, other), each in zip(slopes, three, strict=True):
        assert own.dtype == each.dtype
        torch.testing.assert_close(own, other)


def test_halves_meet_a_wider_bias_or_table() -> None:
    x, table, bias, ids = case(7, 30, 4, dtype=torch.bfloat16)
    plain = x.detach().float() @ table.detach().float().T + bias.detach().float()
    wanted = torch.nn.functional.cross_entropy(plain, ids, reduction="none")
    for given_ in ((x, table.float(), bias), (x, table, bias.float()), (x.float(), table, bias)):
        found = linear_cross_entropy(*given_, ids)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.05)
        assert all(slope.dtype == torch.bfloat16 for slope in torch.autograd.grad(found.sum(), (x, table, bias)))
