"""What every part has in common: its fields are its settings."""

import difflib
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from dlkit.errors import UserError
from dlkit.registry import Registry


class Part(BaseModel):
    """A frozen, typed bundle of settings that knows its registered name and writes itself as ``{"name": ..., ...}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    registered_name: ClassVar[str] = ""

    def spec(self) -> dict[str, Any]:
        """Plain data from which :func:`from_spec` makes an equal part."""
        return {"name": self.registered_name, **self.model_dump(mode="json")}

    def replace(self, **settings: Any) -> Self:
        """A copy with some settings changed, validated like a new one."""
        return type(self).model_validate({**self.model_dump(), **settings})


def from_spec(registry: Registry[Any], value: Any) -> Any:
    """Turn a name, a ``{"name": ..., settings}`` mapping or a part into a part.

    Raises:
        UserError: no such name, no name in the mapping, or a setting that is unknown or has the wrong type.
    """
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict):
        if "name" not in value:
            raise UserError(f"{registry.kind}: the settings {value} lack a 'name'; known: {', '.join(registry.names())}")
        settings = {key: setting for key, setting in value.items() if key != "name"}
        part = registry.get(value["name"])
        try:
            return part.model_validate(settings)
        except ValidationError as error:
            raise UserError(f"{registry.kind} {value['name']!r}: {explain(error, part)}") from None
    return value


def part_of(registry: Registry[Any]) -> Any:
    """Annotation of a field that holds a part of ``registry``, given by name or by settings."""
    return Annotated[
        Part,
        BeforeValidator(lambda value: from_spec(registry, value)),
        PlainSerializer(lambda part: part.spec(), return_type=dict),
    ]


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of a pydantic error in one line, with the nearest key for an unknown one."""
    first = error.errors()[0]
    *above, key = [str(part) for part in first["loc"]] or ["?"]
    path = ".".join([*above, key])
    if first["type"] != "extra_forbidden":
        return f"{path}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r})"[:400]
    fields: list[str] = list(model.model_fields)
    if above:
        field = model.model_fields.get(above[0])
        inner = field.annotation if field else None
        fields = list(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else []
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else (f"known: {', '.join(fields)}" if fields else "remove it")
    return f"unknown key {path!r}; {hint}"
