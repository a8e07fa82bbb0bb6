"""The denoising loss against its mean written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.kernels.denoising_mse import _gradients, denoising_mse


def case(b: int, l: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0, target = (torch.randn(b, l, d, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return x0.requires_grad_(), target.requires_grad_(), torch.rand(b, l, generator=generator) < 0.6


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_is_a_mean_over_masked_elements(b: int, l: int, d: int, seed: int) -> None:
    x0, target, mask = case(b, l, d, seed)
    for found, one, other, rows in zip(denoising_mse(x0, target, mask), x0, target, mask, strict=True):
        wanted = (one - other)[rows].square().mean() if rows.any() else torch.zeros((), dtype=torch.float64)
        assert_close(found, wanted)


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_the_closed_form_is_autograds_gradient(b: int, l: int, d: int, seed: int) -> None:
    x0, target, mask = case(b, l, d, seed)
    grad = torch.arange(1.0, b + 1).double()
    wanted = torch.autograd.grad(denoising_mse(x0, target, mask), (x0, target), grad)
    assert_close(_gradients(grad, (True, True), x0, target, mask)[:2], wanted)


def test_half_precision_is_summed_in_float32() -> None:
    x0, target, mask = case(3, 50, 20, 0, torch.bfloat16)
    found = denoising_mse(x0, target, mask)
    assert found.dtype == torch.float32
    assert_close(found.double(), denoising_mse(x0.double(), target.double(), mask), rtol=1e-5, atol=0)


@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_compiled_twin(dtype: torch.dtype, agrees) -> None:
    for shape in ((5, 7, 3), (4, 9, 16), (1, 2, 33)):
        agrees(denoising_mse, case(*shape, 0, dtype))
