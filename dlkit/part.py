"""What every part has in common: its fields are its settings."""

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from dlkit.errors import UserError
from dlkit.plugins import behind
from dlkit.registry import Registry

Model = TypeVar("Model", bound=BaseModel)


class Part(BaseModel):
    """A frozen, typed bundle of settings that knows its registered name and writes itself as ``{"name": ..., ...}``.

    Attributes:
        trial: settings with which :mod:`dlkit.testing` tries the part, where its defaults are large or incomplete.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    registered_name: ClassVar[str] = ""
    trial: ClassVar[dict[str, Any]] = {}

    def spec(self) -> dict[str, Any]:
        """Plain data from which :func:`from_spec` makes an equal part."""
        return {"name": self.registered_name, **self.model_dump(mode="json")}

    def replace(self, **settings: Any) -> Self:
        """A copy with some settings changed, validated like a new one. Raises ``UserError`` if one is wrong."""
        return validated(type(self), {**self.model_dump(), **settings}, self.registered_name or type(self).__name__)


def from_spec(registry: Registry[Any], value: Any) -> Any:
    """Turn a name, a ``{"name": ..., settings}`` mapping or a part of this kind into a part.

    Raises:
        UserError: no such name, no name in the mapping, a setting that is unknown or has the wrong type, or a part of
            another kind.
    """
    if isinstance(value, Part):
        return _of_this_kind(registry, value)
    settings = {"name": value} if isinstance(value, str) else value
    if not isinstance(settings, dict):
        raise UserError(
            f"{registry.kind}: expected a name or settings with a 'name', got {value!r}; {_known(registry)}"
        )
    name = settings.get("name")
    if not isinstance(name, str):
        raise UserError(f"{registry.kind}: the settings {settings} lack a 'name'; {_known(registry)}")
    rest = {key: setting for key, setting in settings.items() if key != "name"}
    return validated(registry.get(name), rest, f"{registry.kind} {name!r}")


def _of_this_kind(registry: Registry[Any], part: Part) -> Part:
    name = part.registered_name
    if name not in registry.names() or registry.get(name) is not type(part):
        raise UserError(f"{registry.kind}: {type(part).__name__} is not one of these; {_known(registry)}")
    return part


def _known(registry: Registry[Any]) -> str:
    return f"known: {', '.join(registry.names())}"


def part_of(registry: Registry[Any]) -> Any:
    """Annotation of a field that holds a part of ``registry``, given by name or by settings."""
    return Annotated[
        Part,
        BeforeValidator(lambda value: from_spec(registry, value)),
        PlainSerializer(lambda part: part.spec(), return_type=dict),
    ]


def optional_part_of(registry: Registry[Any]) -> Any:
    """Annotation of a field that holds a part of ``registry`` or None."""
    return Annotated[
        Part | None,
        BeforeValidator(lambda value: None if value is None else from_spec(registry, value)),
        PlainSerializer(lambda part: None if part is None else part.spec(), return_type=dict | None),
    ]


def parts_in(settings: Any) -> Iterator[Part]:
    """All parts among settings, at any depth."""
    if isinstance(settings, Part):
        yield settings
    if isinstance(settings, BaseModel):
        settings = [getattr(settings, name) for name in type(settings).model_fields]
    for below in settings if isinstance(settings, (list, tuple)) else ():
        yield from parts_in(below)


def plugins_of(*settings: Any) -> dict[str, str]:
    """Names and versions of the distributions that brought the parts among settings; dlkit's own parts need none."""
    return behind({type(part) for part in parts_in(settings)})


def validated(model: type[Model], data: Any, where: str) -> Model:
    """``data`` as a ``model``. Raises ``UserError`` with one line that begins with ``where``."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, model)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of a pydantic error in one line, with the nearest key for an unknown one."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        *above, key = map(str, first["loc"])
        near = difflib.get_close_matches(key, known := _keys(model, above), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else (f"known: {', '.join(known)}" if known else "remove it")
        return f"unknown key {place!r}; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error":
        message += f" (got {_short(first['input'])})"
    return f"{place}: {message}" if place else message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that settings may have at a path below ``model``; none if that place does not hold settings."""
    for key in path:
        if not key.isdigit():  # the place in a list does not change what its items may hold
            field = model.model_fields.get(key)
            below = next(_models(field.annotation), None) if field else None
            if below is None:
                return []
            model = below
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation such as ``tuple[Stage, ...]`` or ``Weights | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
