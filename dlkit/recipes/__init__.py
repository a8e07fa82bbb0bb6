"""Ready Recipes. Each is a YAML file of this folder that says of every value whether it is the paper's or ours."""

import difflib
from pathlib import Path

from dlkit.errors import UserError
from dlkit.recipe import Recipe

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all ready Recipes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def path(name: str) -> Path:
    """The file of a ready Recipe.

    Raises:
        UserError: there is none of that name.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names())}"
        raise UserError(f"recipes: nothing is called {name!r}; {hint}")
    return _FOLDER / f"{name}.yaml"


def get(name: str) -> Recipe:
    """A ready Recipe. Raises ``UserError`` for an unknown name."""
    return Recipe.from_yaml(path(name))


def find(name_or_file: str) -> Recipe:
    """A ready Recipe by name, or one from a YAML file. Raises ``UserError`` if it is neither."""
    if name_or_file.endswith((".yaml", ".yml")) or "/" in name_or_file:
        return Recipe.from_yaml(name_or_file)
    return get(name_or_file)
