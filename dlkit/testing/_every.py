"""What parts of every kind promise."""

import functools
import importlib
import json
from typing import Any

import yaml

from dlkit.errors import UserError
from dlkit.part import Part, from_spec
from dlkit.registry import KINDS, Registry
from dlkit.testing._promise import promise, require


def registry_of(part: Part) -> Registry[Any]:
    """The registry that the part is in."""
    return _registry_of(type(part))


@functools.cache
def _registry_of(part: type[Part]) -> Registry[Any]:
    registries = (importlib.import_module(package).registry for package in KINDS.values())
    name = part.registered_name
    return next(registry for registry in registries if name in registry.names() and registry.get(name) is part)


@promise(variants=False)
def is_described(part: Part) -> None:
    """It has one line of description and a docstring with the formula and the settings."""
    entry = registry_of(part).entry(part.registered_name)
    require(bool(entry.description.strip()), "its description is empty")
    require("\n" not in entry.description, "its description has more than one line")
    require(bool((type(part).__doc__ or "").strip()), "its class has no docstring")


@promise()
def is_plain_data(part: Part) -> None:
    """Its spec goes through JSON and YAML and comes back as an equal part."""
    spec = part.spec()
    require(spec.get("name") == part.registered_name, f"its spec {spec} lacks its name")
    for how, again in (("JSON", json.loads(json.dumps(spec))), ("YAML", yaml.safe_load(yaml.safe_dump(spec)))):
        require(again == spec, f"its spec changes in {how}: {again} was {spec}")
        require(from_spec(registry_of(part), again) == part, f"what comes back from {how} is another part")


@promise(variants=False)
def refuses_unknown_settings(part: Part) -> None:
    """A setting that it does not have is refused in one line."""
    try:
        from_spec(registry_of(part), {**part.spec(), "no_such_setting": 1})
    except UserError as error:
        require("\n" not in str(error), f"the refusal has more than one line: {error}")
        return
    raise AssertionError("the setting no_such_setting was accepted; leave extra='forbid' as it is in Part")


@promise(variants=False)
def is_frozen(part: Part) -> None:
    """Its settings cannot be changed in place."""
    for name in type(part).model_fields:
        try:
            setattr(part, name, getattr(part, name))
        except ValueError:  # pydantic's ValidationError
            continue
        raise AssertionError(f"{name} can be set; leave frozen=True as it is in Part")
