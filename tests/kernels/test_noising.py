"""Noising with anchors against its two cases."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.kernels.noising import _gradients, noising

B, L, D = 3, 4, 5


def case(seed: int, positions: bool, dtype: torch.dtype = torch.float64, size: tuple[int, int, int] = (B, L, D)):
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]
    x0, eps, anchor = (state.requires_grad_() for state in states)
    shape = size[:2] if positions else size[:1]
    alpha, sigma = (torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    return x0, eps, alpha, sigma, anchor, torch.rand(size[:2], generator=generator) < 0.6


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_generated_positions_are_noised_and_given_ones_held(seed: int, positions: bool) -> None:
    x0, eps, alpha, sigma, anchor, mask = case(seed, positions)
    found = noising(x0, eps, alpha, sigma, anchor, mask)
    for b in range(B):
        for l in range(L):
            a, s = (value[b, l] if positions else value[b] for value in (alpha, sigma))
            assert_close(found[b, l], a * x0[b, l] + s * eps[b, l] if mask[b, l] else anchor[b, l])
    assert_close(noising(x0, eps, alpha, sigma)[mask], found[mask])


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_closed_form_is_autograds_gradient(seed: int, positions: bool, anchored: bool) -> None:
    args = case(seed, positions)
    args = args if anchored else (*args[:4], None, None)
    leaves = [each for each in args if isinstance(each, Tensor) and each.requires_grad]
    grad = torch.randn(B, L, D, generator=torch.Generator().manual_seed(seed)).double()
    wanted = torch.autograd.grad(noising(*args), leaves, grad)
    found = _gradients(grad, (True,) * 6, *args)[: len(leaves)]
    assert_close(found, wanted)


def test_coefficients_are_rounded_once() -> None:
    """From float64 to the type of the state, and only then do they multiply it."""
    x0, eps, alpha, sigma, *_ = case(0, False, torch.float32)
    assert torch.equal(
        noising(x0, eps, alpha, sigma), alpha.float()[:, None, None] * x0 + sigma.float()[:, None, None] * eps
    )


@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_compiled_twin(dtype: torch.dtype, agrees) -> None:
    for size in ((3, 4, 5), (2, 9, 16), (7, 3, 33)):
        agrees(noising, case(0, False, dtype, size))
        agrees(noising, case(1, True, dtype, size))
    x0, eps, alpha, sigma, *_ = case(2, True, dtype)
    agrees(noising, (x0, eps.detach(), alpha.detach(), sigma.detach(), None, None))
