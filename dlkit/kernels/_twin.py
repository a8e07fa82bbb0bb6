"""One kernel, run as it is written or compiled."""

import os
import warnings
from collections.abc import Callable
from functools import cache, update_wrapper
from inspect import signature, unwrap
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

from dlkit.errors import Notice

P = ParamSpec("P")
R = TypeVar("R")

SMALL = 1 << 16
"""Elements of the largest input below which, on a CPU, calling the twin costs more than it saves."""

_on = False


class compiled:  # read as a function: compiled(), compiled(False), with compiled(): ...
    """Run kernels compiled from here on, or as they are written; at the end of a ``with``, as before it.

    It holds for the whole process. The environment variable ``DLKIT_COMPILE``, 0 or 1, overrides it. As long as nobody
    says otherwise kernels run as written, because the first call of each compiled one takes seconds.
    """

    def __init__(self, on: bool = True) -> None:
        global _on
        self._before, _on = _on, on

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        global _on
        _on = self._before


def is_compiled() -> bool:
    """Whether kernels run compiled, as far as there is a compiler."""
    return {"0": False, "1": True}.get(os.environ.get("DLKIT_COMPILE", ""), _on)


class Twin(Generic[P, R]):
    """A function of tensors and its compiled twin, with the same signature; see :func:`twin`.

    Attributes:
        eager: the function as written, the definition.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.eager = function
        self._gradient: Twin[..., Any] | None = None
        self._fused: Callable[..., Any] | None = None
        self._is_full = False
        update_wrapper(self, function)

    def gradient(self, function: Callable[..., Any]) -> "Twin[..., Any]":
        """Decorator: the gradient in closed form, a function of (gradient of the result, wanted, *arguments).

        It gives one value for each argument, of which those that ``wanted`` says are used. It serves the compiled twin.
        The gradient may itself be differentiated; it then runs as it is written.
        """
        self._gradient = Twin(function)
        return self._gradient

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if not runs_compiled(*args, *kwargs.values()):
            return self.eager(*args, **kwargs)
        if kwargs:
            args = signature(self.eager).bind(*args, **kwargs).args  # type: ignore[assignment]
        if not torch.is_grad_enabled() or not any(isinstance(each, Tensor) and each.requires_grad for each in args):
            return self.fused(*args)
        return self.eager(*args) if self._gradient is None else _Closed.apply(self, *args)  # type: ignore[return-value]

    @torch.no_grad()
    def fused(self, *args: Any) -> Any:
        """The compiled twin; for a kind of input that is one too many for torch to compile for, as written."""
        if self._fused is None:
            self._fused = torch.compile(unwrap(self.eager), fullgraph=True, dynamic=True)
        try:
            return self._fused(*args)
        except torch._dynamo.exc.FailOnRecompileLimitHit:  # pyright: ignore[reportAttributeAccessIssue]  # slow to import
            if not self._is_full:
                self._is_full = True
                name = getattr(self.eager, "__name__", "a kernel")
                _say(f"{name} has met too many kinds of inputs to compile for each; new ones run uncompiled")
            return self.eager(*args)  # type: ignore


class _Closed(torch.autograd.Function):
    """A compiled twin and its gradient."""

    @staticmethod
    def forward(ctx: Any, kernel: Twin[..., Any], *args: Any) -> Any:
        ctx.kernel = kernel
        ctx.places = [k for k, each in enumerate(args) if isinstance(each, Tensor)]
        ctx.rest = [None if isinstance(each, Tensor) else each for each in args]
        ctx.save_for_backward(*(args[k] for k in ctx.places))
        return kernel.fused(*(each.detach() if isinstance(each, Tensor) else each for each in args))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        args = list(ctx.rest)
        for place, tensor in zip(ctx.places, ctx.saved_tensors, strict=True):
            args[place] = tensor if torch.is_grad_enabled() else tensor.detach()
        wanted = ctx.needs_input_grad[1:]
        found = ctx.kernel._gradient(grad, wanted, *args)
        return (None, *(each if asked else None for each, asked in zip(found, wanted, strict=False)))


def twin(function: Callable[P, R]) -> Twin[P, R]:
    """Decorator: calls go to a compiled twin of the function where that is wanted (:class:`compiled`) and possible.

    Otherwise they go to the function as it is written: where there is no compiler, which is told once; where inputs are
    too :data:`SMALL`; on devices other than CPU and CUDA; inside a graph that is being compiled, which takes it in;
    under ``torch.func`` and in forward mode; and, without a :meth:`Twin.gradient`, where autograd is to go through it.
    """
    assert not any(each.kind is each.KEYWORD_ONLY for each in signature(function).parameters.values())
    return Twin(function)


def runs_compiled(*args: Any) -> bool:
    """Whether a twin that is called with these values runs compiled."""
    if torch.compiler.is_compiling() or not is_compiled():
        return False
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return False
    on_cpu, on_cuda, size = True, True, 0
    for each in args:
        if isinstance(each, Tensor):
            on_cpu, on_cuda, size = on_cpu and each.is_cpu, on_cuda and each.is_cuda, max(size, each.numel())
    return (on_cpu and size >= SMALL and has_compiler("cpu")) or (on_cuda and has_compiler("cuda"))


@cache
def has_compiler(device: str) -> bool:
    """Whether torch can compile for a device, ``cpu`` or ``cuda``; if not, a :class:`dlkit.errors.Notice` says so."""
    try:
        _probe(device)
    except Exception as error:  # of whatever kind torch makes it
        reason = " ".join(str(error).split())[:120]
        _say(f"nothing can be compiled for {device}, so all runs as it is written: {type(error).__name__}: {reason}")
        return False
    return True


def _probe(device: str) -> None:
    """Raise if torch.compile would fail: for want of a compiler, of what that needs, or of a place to write to."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    get_cpp_compiler()  # which says more plainly what is missing than the failure of a call
    torch.compile(torch.neg, fullgraph=True)(torch.ones(1, device=device))


def _say(what: str) -> None:
    warnings.warn(what, Notice, stacklevel=4)
