"""The type checker that jaxtyping's pytest option applies to every function of dlkit.

typeguard 4's own decorator parses the shape in ``Float[Tensor, "b l d"]`` as code, and through jaxtyping's import hook
it checks nothing at all. Its ``check_type`` works on the evaluated annotation, where jaxtyping answers ``isinstance``.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from typeguard import ForwardRefPolicy, TypeCheckConfiguration, TypeCheckMemo, check_type_internal

F = TypeVar("F", bound=Callable[..., Any])
CONFIG = TypeCheckConfiguration(forward_ref_policy=ForwardRefPolicy.IGNORE)
VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def checker(function: F) -> F:
    """Check a function's arguments and return value against its annotations at each call.

    Defaults that the caller leaves alone are not checked. A generator must be the iterator its annotation promises, but
    what it yields is not looked at; nor is the result of a coroutine.

    Raises:
        typeguard.TypeCheckError: a value does not fit its annotation.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        memo = TypeCheckMemo({}, {}, self_type=_owner(args), config=CONFIG)
        for value, hint in _arguments(signature, args, kwargs):
            _check(value, hint, memo)
        result = function(*args, **kwargs)
        if not inspect.iscoroutine(result):
            _check(result, signature.return_annotation, memo)
        return result

    return typing.cast(F, checked)


def _arguments(signature: inspect.Signature, args: Any, kwargs: Any) -> Iterator[tuple[Any, Any]]:
    """Each value given, with its annotation; ``*args`` and ``**kwargs`` one value at a time."""
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        parameter = signature.parameters[name]
        if parameter.kind in VARIADIC:
            values = value.values() if isinstance(value, dict) else value
            yield from ((each, parameter.annotation) for each in values)
        else:
            yield value, parameter.annotation


def _owner(args: tuple[Any, ...]) -> type | None:
    """The class that ``Self`` stands for if the function is a method; of a plain function it is never asked."""
    if not args:
        return None
    return args[0] if isinstance(args[0], type) else type(args[0])


def _check(value: Any, hint: Any, memo: TypeCheckMemo) -> None:
    unchecked = (
        hint is inspect.Signature.empty
        or isinstance(hint, str | typing.ParamSpecArgs | typing.ParamSpecKwargs)
        or typing.get_origin(hint) is typing.Unpack
    )
    if not unchecked:
        check_type_internal(value, hint, memo)
