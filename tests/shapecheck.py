"""The type checker that jaxtyping's pytest option applies to every function of dlkit.

typeguard 4's own decorator parses the shape in ``Float[Tensor, "b l d"]`` as code, and through jaxtyping's import hook
it checks nothing at all. Its ``check_type`` works on the evaluated annotation, where jaxtyping answers ``isinstance``.

What a plain ``isinstance`` accepts is not shown to typeguard, and after ``CALLS`` calls a test is left alone: what
comes later is the next step of a loop or the next example of a property, and checking all of it took three quarters of
the time of such tests.
"""

import functools
import inspect
import itertools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jaxtyping
from typeguard import ForwardRefPolicy, TypeCheckConfiguration, TypeCheckMemo, check_type_internal

F = TypeVar("F", bound=Callable[..., Any])
CONFIG = TypeCheckConfiguration(forward_ref_policy=ForwardRefPolicy.IGNORE)
CALLS = 3000
PLACES = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


_calls = itertools.count()


def begin() -> None:
    """A test begins: its first calls are checked."""
    global _calls
    _calls = itertools.count()
    jaxtyping.config.update("jaxtyping_disable", False)


def checker(function: F) -> F:
    """Check a function's arguments and return value against its annotations at each call.

    Defaults that the caller leaves alone are not checked. A generator must be the iterator its annotation promises, but
    what it yields is not looked at; nor is the result of a coroutine.

    jaxtyping makes two functions of one and calls them in turn: the first takes the arguments, the second the arguments
    again and the result, which it returns. The arguments are looked at in the first only.

    Raises:
        typeguard.TypeCheckError: a value does not fit its annotation.
    """
    signature = inspect.signature(function)
    hints = {name: _Hint.of(parameter.annotation) for name, parameter in signature.parameters.items()}
    kinds = {parameter.kind: hints[name] for name, parameter in signature.parameters.items()}
    places = tuple(hints[name] for name, parameter in signature.parameters.items() if parameter.kind in PLACES)
    more, others = kinds.get(inspect.Parameter.VAR_POSITIONAL), kinds.get(inspect.Parameter.VAR_KEYWORD)
    end = _Hint.of(signature.return_annotation)
    are_known = _takes_its_result(signature)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if not are_known:
            if next(_calls) == CALLS:
                jaxtyping.config.update("jaxtyping_disable", True)
            for value, hint in zip(args, itertools.chain(places, itertools.repeat(more)), strict=False):
                if hint is not None and not isinstance(value, hint.classes):
                    hint.check(value, args)
            for name, value in kwargs.items():
                hint = hints.get(name, others)
                if hint is not None and not isinstance(value, hint.classes):
                    hint.check(value, args)
        result = function(*args, **kwargs)
        if end is not None and not isinstance(result, end.classes) and not inspect.iscoroutine(result):
            end.check(result, args)
        return result

    return typing.cast(F, checked)


def _takes_its_result(signature: inspect.Signature) -> bool:
    """Whether it is the second of jaxtyping's functions: its last keyword is ``ret0`` or so, without an annotation."""
    named = [each for each in signature.parameters.values() if each.kind is inspect.Parameter.KEYWORD_ONLY]
    return bool(named) and named[-1].name.startswith("ret") and named[-1].annotation is Any


@dataclass(frozen=True)
class _Hint:
    """An annotation that says something.

    Attributes:
        hint: the annotation.
        classes: those an instance of which fits for sure; of the others typeguard decides.
    """

    hint: Any
    classes: tuple[type, ...]

    @classmethod
    def of(cls, hint: Any) -> "_Hint | None":
        """None of an annotation that everything fits, or that cannot be checked."""
        unchecked = (
            hint in (inspect.Signature.empty, Any)
            or isinstance(hint, str | typing.ParamSpecArgs | typing.ParamSpecKwargs)
            or typing.get_origin(hint) is typing.Unpack
        )
        return None if unchecked else cls(hint, tuple(filter(_is_plain, _members(hint))))

    def check(self, value: Any, args: tuple[Any, ...]) -> None:
        """Let typeguard look at it; ``args`` begin with the owner of a method, which ``Self`` stands for."""
        owner = args[0] if args and isinstance(args[0], type) else type(args[0]) if args else None
        check_type_internal(value, self.hint, TypeCheckMemo({}, {}, self_type=owner, config=CONFIG))


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _is_plain(hint: Any) -> bool:
    """Whether typeguard would ask ``isinstance`` only: of protocols, typed dicts and named tuples it asks more."""
    has_more = getattr(hint, "_is_protocol", False) or typing.is_typeddict(hint) or hasattr(hint, "_fields")
    return isinstance(hint, type) and typing.get_origin(hint) is None and not has_more
