"""When a kernel runs compiled, and when as it is written."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dlkit.errors import Notice
from dlkit.kernels import _twin
from dlkit.kernels._twin import Twin, compiled, has_compiler, is_compiled, runs_compiled, twin


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DLKIT_COMPILE", raising=False)
    has_compiler.cache_clear()
    with compiled(False):
        yield
    has_compiler.cache_clear()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Twin:
    """x^2 by a power p, whose compiled twin, which nothing is compiled for here, says so by a minus."""

    def power(x: Tensor, p: int = 2) -> Tensor:
        return x**p

    made = twin(power)

    @made.gradient
    def _slope(grad: Tensor, wanted: tuple[bool, ...], x: Tensor, p: int = 2) -> tuple[Tensor, None]:
        return grad * p * x ** (p - 1), None

    monkeypatch.setattr(made, "_fused", lambda x, p=2: -(x**p))
    assert made._gradient is not None
    monkeypatch.setattr(made._gradient, "_fused", made._gradient.eager)
    monkeypatch.setattr(_twin, "_probe", lambda device: None)
    monkeypatch.setattr(_twin, "SMALL", 2)
    return made


X = torch.tensor([1.0, 3.0])


def test_kernels_run_as_written_unless_told_otherwise(kernel: Twin) -> None:
    assert not is_compiled()
    assert torch.equal(kernel(X), X**2)


def test_the_switch_holds_until_the_end_of_its_block(kernel: Twin) -> None:
    with compiled():
        assert torch.equal(kernel(X), -(X**2))
        with compiled(False):
            assert torch.equal(kernel(X), X**2)
        assert torch.equal(kernel(X), -(X**2))
    assert torch.equal(kernel(X), X**2)


def test_what_is_too_small_runs_as_written(kernel: Twin) -> None:
    with compiled():
        assert kernel(torch.tensor([3.0])) == 9
        assert torch.equal(kernel(X), -(X**2))


def test_the_switch_alone_holds_on() -> None:
    compiled()
    assert is_compiled()
    compiled(False)
    assert not is_compiled()


@pytest.mark.parametrize("value", ["0", "1"])
def test_the_environment_overrides_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLKIT_COMPILE", value)
    for on in (False, True):
        with compiled(on):
            assert is_compiled() is (value == "1")


def test_without_a_compiler_it_says_so_once_and_goes_on(kernel: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(_twin, "_probe", none)
    with compiled():
        with pytest.warns(Notice, match="nothing can be compiled for cpu.*No working C\\+\\+ compiler") as said:
            assert torch.equal(kernel(X), X**2)
        assert len(said) == 1
        with warnings.catch_warnings(action="error"):
            assert torch.equal(kernel(X), X**2)


def test_a_compiler_that_does_not_work_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be there and lack headers, or have no place to write to: only a trial tells."""

    def fails(*args: Any, **options: Any) -> Any:
        raise RuntimeError("Python.h: No such file or directory")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "g++")
    monkeypatch.setattr(torch, "compile", fails)
    with pytest.warns(Notice, match=r"nothing can be compiled for cpu.*Python\.h"):
        assert not has_compiler("cpu")


def test_the_probe_knows_this_machine() -> None:
    """It finds a compiler exactly where torch's own look-up does."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception:
        with pytest.warns(Notice):
            assert not has_compiler("cpu")
    else:
        assert has_compiler("cpu")


def test_arguments_by_name(kernel: Twin) -> None:
    with compiled():
        assert torch.equal(kernel(X, p=3), -(X**3))
        assert torch.equal(kernel(p=3, x=X), -(X**3))
        x = X.clone().requires_grad_()
        assert_close(torch.autograd.grad(kernel(x, p=3).sum(), x)[0], 3 * X**2)


def test_the_gradient_in_closed_form_serves_the_compiled_twin(kernel: Twin) -> None:
    x = X.clone().requires_grad_()
    with compiled():
        value = kernel(x)
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert torch.equal(value, -(X**2))
    assert_close(slope, 2 * X)  # the plus is the closed form's
    assert_close(curvature, torch.full_like(X, 2.0))


def test_without_one_autograd_goes_through_the_kernel_as_written(kernel: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_gradient", None)
    x = X.clone().requires_grad_()
    with compiled():
        assert torch.equal(kernel(x), X**2)
        with torch.no_grad():
            assert torch.equal(kernel(x), -(X**2))


def test_transforms_and_other_devices_take_the_kernel_as_written(kernel: Twin) -> None:
    with compiled():
        assert torch.equal(torch.func.vmap(kernel)(X), X**2)
        assert torch.equal(torch.func.jvp(kernel, (X,), (torch.ones(2),))[1], 2 * X)
        with torch.autograd.forward_ad.dual_level():
            assert torch.equal(kernel(X), X**2)
        assert kernel(X.to("meta")).device.type == "meta"
        assert not runs_compiled(X, X.to("meta"))


def test_too_many_kinds_of_inputs(kernel: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(x: Tensor) -> Tensor:
        raise torch._dynamo.exc.FailOnRecompileLimitHit("recompile_limit reached")

    monkeypatch.setattr(kernel, "_fused", full)
    with compiled():
        with pytest.warns(Notice, match="power has met too many kinds of inputs"):
            assert torch.equal(kernel(X), X**2)
        with warnings.catch_warnings(action="error"):
            assert torch.equal(kernel(X), X**2)
