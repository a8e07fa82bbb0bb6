"""The checker behind ``--jaxtyping-packages`` finds what it should and lets the rest pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ParamSpec, Self, TypeVar

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

import shapecheck
from shapecheck import checker

P = ParamSpec("P")
R = TypeVar("R")
checked = jaxtyped(typechecker=checker)


@checked
def join(
    first: Float[Tensor, "b d"], *rest: Float[Tensor, "b d"], **named: Float[Tensor, " b"]
) -> Float[Tensor, "n d"]:
    return torch.cat([first, *rest])


@checked
def promise(x: Float[Tensor, "b d"]) -> Float[Tensor, "d b"]:
    return x


@checked
def count(n: int = 1) -> Iterator[int]:
    yield from range(n)


@checked
def default(n: int = None) -> int:  # type: ignore[assignment]  # noqa: RUF013
    return n or 1


@checked
async def later() -> int:
    return 1


@checked
def call(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return function(*args, **kwargs)


class Chain:
    @checked
    def next(self, step: int) -> Self:
        return self

    @classmethod
    @checked
    def make(cls) -> Self:
        return cls()

    @checked
    def wrong(self) -> Self:
        return 3  # type: ignore[return-value]


@checked
@dataclass(frozen=True)
class Pair:
    a: Float[Tensor, " n"]
    b: Float[Tensor, " n"]


def test_accepts_what_fits() -> None:
    x = torch.zeros(2, 3)
    assert join(x, x, weight=torch.zeros(2)).shape == (4, 3)
    assert promise(torch.zeros(3, 3)).shape == (3, 3)
    assert list(count()) == [0]
    assert default() == 1
    assert call(max, 1, 2) == 2
    assert isinstance(Chain.make().next(1), Chain)
    Pair(torch.zeros(2), torch.zeros(2))
    later().close()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x: join(x[0]),
        lambda x: join(x, x[:1]),
        lambda x: join(x, w=x),
        lambda x: join(x.int()),
        lambda x: join([0.0]),
        lambda x: promise(x),
        lambda x: count("two"),
        lambda x: Chain().next("one"),
        lambda x: Chain().wrong(),
        lambda x: Pair(x[0], x[0, :1]),
    ],
)
def test_refuses_what_does_not(mistake: Callable[[Tensor], Any]) -> None:
    with pytest.raises(TypeCheckError):
        mistake(torch.zeros(2, 3))


def test_dlkit_itself_is_checked() -> None:
    from dlkit.registry import Registry

    with pytest.raises(TypeCheckError):
        Registry(kind=3, package="dlkit")  # type: ignore[arg-type]


def test_a_test_is_left_alone_after_its_first_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapecheck, "CALLS", 2)
    shapecheck.begin()
    try:
        for _ in range(2):
            with pytest.raises(TypeCheckError):
                promise(torch.zeros(2, 3))
        promise(torch.zeros(3, 3))
        assert promise(torch.zeros(2, 3)).shape == (2, 3)
    finally:
        shapecheck.begin()
    with pytest.raises(TypeCheckError):
        promise(torch.zeros(2, 3))
