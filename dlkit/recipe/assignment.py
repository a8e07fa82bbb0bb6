"""``--set PATH=VALUE``: one assignment to nested plain data."""

import difflib
from typing import Any

import yaml

from dlkit.errors import UserError


def assign(data: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    if not equals:
        raise UserError(f"--set {assignment}: expected PATH=VALUE, for example --set objective.mu=1.0")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {assignment}: {text!r} is not a YAML value; quote it") from None
    *parents, last = path.strip().split(".")
    node: Any = data
    for depth, key in enumerate(parents):
        node = node[_key(node, key, path, parents[:depth])]
    node[_key(node, last, path, parents)] = value


def _key(node: Any, key: str, path: str, above: list[str]) -> str | int:
    """The key of ``node`` that a path means, or an error that lists those there are."""
    place = ".".join(above) or "the recipe"
    if isinstance(node, list):
        if key.isdigit() and int(key) < len(node):
            return int(key)
        raise UserError(f"--set {path}: {place} has items 0 to {len(node) - 1}, not {key!r}")
    if not isinstance(node, dict):
        raise UserError(f"--set {path}: {place} is {node!r} and has nothing below it; set {place} itself")
    if key not in node:
        near = difflib.get_close_matches(key, node, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(node)}"
        raise UserError(f"--set {path}: {place} has no {key!r}; {hint}")
    return key
