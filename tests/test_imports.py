"""A room imports only rooms above it in the list of docs/architecture.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dlkit"
BETWEEN_MARKERS = re.compile(r"<!-- rooms -->(.*)<!-- /rooms -->", re.DOTALL)
ROOMS = re.findall(
    r"^\| `(\w+)` \|", BETWEEN_MARKERS.search((ROOT / "docs/architecture.md").read_text())[1], re.MULTILINE
)
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    """``dlkit/diffusion/processes/gaussian.py`` is in the room ``diffusion``."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, function bodies included, but for the body of ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from run_time_nodes(child)


def imported(node: ast.AST, parents: tuple[str, ...]) -> list[str]:
    """Dotted names that an import statement may bind, for a module in the package ``parents``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = parents[: len(parents) + 1 - node.level] if node.level else ()
        base = ".".join([*above, *filter(None, [node.module])])
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


def rooms_imported(source: str, parents: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and room of each import of dlkit; ``dlkit`` alone counts as a room unlisted, ``__version__`` as none."""
    for node in run_time_nodes(ast.parse(source)):
        for name in imported(node, parents):
            first, _, rest = name.partition(".")
            if first == "dlkit" and rest != "__version__":
                yield getattr(node, "lineno", 0), rest.partition(".")[0] or "dlkit"


def test_every_room_is_listed_once() -> None:
    assert len(ROOMS) == len(set(ROOMS))
    assert {room_of(path) for path in MODULES} <= set(ROOMS), "add the new room to docs/architecture.md"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_up(path: Path) -> None:
    own = room_of(path)
    allowed = ROOMS[: ROOMS.index(own) + 1]
    parents = path.relative_to(ROOT).parent.parts
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {own} may not import {room}"
        for line, room in rooms_imported(path.read_text(), parents)
        if room not in allowed
    ]
    assert not wrong, "\n".join([*wrong, "a room may import only the rooms above it: see docs/architecture.md"])


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("import torch, dlkit.spaces.embedding", ["spaces"]),
        ("from dlkit.training import engine", ["training"]),
        ("from dlkit import data, __version__", ["data"]),
        ("def f():\n    from dlkit.cli import main", ["cli"]),
        ("from . import gaussian\nfrom .. import state\nfrom ...data import pairs", ["diffusion", "diffusion", "data"]),
        ("import dlkit", ["dlkit"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dlkit.cli import main", []),
    ],
)
def test_the_reader_of_imports(source: str, rooms: list[str]) -> None:
    assert [room for _, room in rooms_imported(source, ("dlkit", "diffusion", "processes"))] == rooms
