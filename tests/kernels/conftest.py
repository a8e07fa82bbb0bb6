"""What tests of kernels share."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dlkit.errors import Notice
from dlkit.kernels import _twin
from dlkit.kernels._twin import compiled


@pytest.fixture
def agrees(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor], tuple[Any, ...]], None]:
    """A check that a kernel gives the same compiled as written, in value and in gradients, up to rounding."""
    monkeypatch.setattr(_twin, "SMALL", 0)
    torch.compiler.reset()  # it compiles for a few kinds of inputs only
    return _agrees


def _agrees(kernel: Callable[..., Tensor], args: tuple[Any, ...]) -> None:
    leaves = [each for each in args if isinstance(each, Tensor) and each.requires_grad]
    found = []
    for on in (False, True):
        with compiled(on), warnings.catch_warnings(action="error", category=Notice):
            value = kernel(*args)
            grad = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
            found.append((value, *torch.autograd.grad(value, leaves, grad)))
    eager, fused = found
    tolerance = {torch.bfloat16: 2**-6, torch.float32: 2e-5, torch.float64: 1e-12}
    coarse = max(tolerance[each.dtype] for each in leaves)
    for one, other in zip(eager, fused, strict=True):
        assert one.dtype == other.dtype
        assert_close(other, one, rtol=coarse, atol=coarse * float(one.detach().abs().max()))
