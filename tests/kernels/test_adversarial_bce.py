"""Binary cross-entropy of logits against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dlkit.kernels.adversarial_bce import _gradients, adversarial_bce


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=9), st.booleans())
def test_is_minus_the_log_of_the_probability(values: list[float], real: bool) -> None:
    logits = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    p = torch.sigmoid(logits if real else -logits)
    found = adversarial_bce(logits, real)
    assert_close(found, -p.log(), rtol=1e-7, atol=1e-12)
    (wanted,) = torch.autograd.grad(found.sum(), logits)
    assert_close(_gradients(torch.ones_like(logits), (True,), logits, real)[0], wanted.detach(), rtol=1e-7, atol=1e-9)


def test_large_logits_neither_overflow_nor_round_to_nothing() -> None:
    logits = torch.tensor([-1e4, 1e4]).bfloat16()
    found = adversarial_bce(logits, True)
    assert found.dtype == torch.float32
    assert found.tolist() == [float(-logits[0]), 0.0]


@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_compiled_twin(dtype: torch.dtype, agrees) -> None:
    for shape in ((5,), (3, 7), (33, 4)):
        for real in (True, False):
            agrees(adversarial_bce, (torch.randn(shape).to(dtype).requires_grad_(), real))
