"""A promise that parts of a kind keep, and a check of one part against it."""

import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from dlkit.errors import UserError
from dlkit.part import Part, from_spec
from dlkit.registry import Registry

Function = Callable[[Any], None]


@dataclass(frozen=True)
class Promise:
    """A test of any part of a kind.

    Attributes:
        test: raises if the part that it is given breaks the promise; the first line of its docstring says what it is.
        variants: the promise is tried for each variant of the part, not only for its trial settings.
        slow: takes more than a second or two.
        compiles: calls torch.compile.
    """

    test: Function
    variants: bool = True
    slow: bool = False
    compiles: bool = False


def promise(*, variants: bool = True, slow: bool = False, compiles: bool = False) -> Callable[[Function], Promise]:
    """Decorator: the function is a test of a promise."""
    return lambda test: Promise(test, variants and not slow and not compiles, slow or compiles, compiles)


class Check:
    """One part against one promise. Call it: it raises ``AssertionError`` with a line that names both.

    Attributes:
        slow, compiles: see :class:`Promise`.
    """

    def __init__(self, registry: Registry[Any], name: str, promise: Promise, settings: dict[str, Any]) -> None:
        self.registry, self.name, self.promise, self.settings = registry, name, promise, settings
        self.slow, self.compiles = promise.slow, promise.compiles
        self.__name__ = promise.test.__name__

    def __repr__(self) -> str:
        return f"{self.registry.kind} {self.name} {self.__name__}"

    def __call__(self) -> None:
        if self.compiles:
            need_compiler()
        for part in self._parts():
            try:
                self.promise.test(part)
            except unittest.SkipTest:
                raise
            except Exception as error:
                raise AssertionError(self._complaint(part, error)) from error

    def _parts(self) -> list[Part]:
        try:
            part = from_spec(self.registry, {"name": self.name, **self._settings()})
        except UserError as error:
            raise AssertionError(f"{error} (settings without a default belong into the part's `trial`)") from error
        return [part, *variants(self.registry, part)] if self.promise.variants else [part]

    def _settings(self) -> dict[str, Any]:
        return {**self.registry.get(self.name).trial, **self.settings}

    def _complaint(self, part: Part, error: Exception) -> str:
        promised = (self.promise.test.__doc__ or "").strip().splitlines()[0].rstrip(".")
        what = " ".join(str(error).split())
        if not isinstance(error, AssertionError):
            what = f"{type(error).__name__}: {what}"
        settings = ", ".join(f"{key}={value!r}" for key, value in part.spec().items() if key != "name")
        return f"{self.registry.kind}: {self.name}({settings}) breaks '{promised}': {what}"


def variants(registry: Registry[Any], part: Part) -> Iterator[Part]:
    """The part with each other value of each setting that has only a few, but for those that it refuses."""
    for name, field in type(part).model_fields.items():
        for value in _choices(field.annotation):
            if value == getattr(part, name):
                continue
            try:
                yield from_spec(registry, {**part.spec(), name: value})
            except UserError:
                continue


def _choices(annotation: Any) -> tuple[Any, ...]:
    if annotation is bool:
        return (False, True)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def require(condition: bool | Tensor, complaint: str) -> None:
    """Raise ``AssertionError`` unless the condition holds."""
    if not bool(condition):
        raise AssertionError(complaint)


def require_like(value: Any, what: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """A tensor of that shape and type without NaN or infinity."""
    require(isinstance(value, Tensor), f"{what} is a {type(value).__name__}, not a tensor")
    require(tuple(value.shape) == shape, f"{what} has shape {tuple(value.shape)}, not {shape}")
    require(value.dtype == dtype, f"{what} is {value.dtype}, not {dtype}")
    require(value.isfinite().all(), f"{what} holds NaN or infinity")


def require_equal(first: Tensor, second: Tensor, complaint: str) -> None:
    """Bit for bit."""
    require(first.shape == second.shape and torch.equal(first, second), complaint)


def require_close(first: Tensor, second: Tensor, complaint: str, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Equal up to rounding."""
    first, second = first.detach(), second.detach()
    require(first.shape == second.shape, f"{complaint}: shapes {tuple(first.shape)} and {tuple(second.shape)}")
    gap = (first - second).abs().max() if first.numel() else torch.zeros(())
    require(torch.allclose(first, second, rtol=rtol, atol=atol), f"{complaint}: they differ by up to {float(gap):.3g}")


def need_compiler() -> None:
    """Raise ``unittest.SkipTest``, which pytest takes for a skip, where torch.compile finds no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise unittest.SkipTest("no C++ compiler") from None


def compiled(function: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """The function compiled as one graph: whatever breaks it or syncs with the host raises.

    Args:
        backend: ``aot_eager`` finds the graphs, forward and backward, and runs them without making code of them.
    """
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend=backend)
