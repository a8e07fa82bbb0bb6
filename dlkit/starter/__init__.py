"""A starter package for a plugin: ``dlkit new-plugin``.

The other modules here are what the parts of starters begin as, one for each kind: working examples in which ``starter``
is replaced by the part's name. So a starter is a package whose tests pass.
"""

import importlib
import keyword
import re
from importlib import resources, util
from pathlib import Path
from string import Template

from dlkit import __version__
from dlkit.errors import UserError
from dlkit.files import atomic_folder
from dlkit.plugins import DISTRIBUTION
from dlkit.registry import KINDS

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
IN_A_RECIPE = {
    "schedules": "model: {process: {name: gaussian, schedule: $part}}",
    "spaces": "model: {space: $part}",
    "processes": "model: {process: $part}",
    "time_samplers": "time_sampler: $part",
    "backbones": "model: {backbone: $part}",
    "objectives": "objective: $part",
    "discriminators": "adv: {head: $part}",
    "decoders": "decoder: $part",
    "samplers": "# not in a Recipe: dlkit sample --sampler $part",
    "metrics": "evaluation: {metric: $part}  # dlkit eval computes it without being told",
    "teachers": "model: {family: $part}",
}
PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
description = "A part for dlkit"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["$needs"]

[project.optional-dependencies]
test = ["pytest>=9.0"]

[project.entry-points."dlkit.$kind"]
$part = "$part.$part"

[tool.hatch.build.targets.wheel]
packages = ["src/$part"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""
README = """\
# $name

`$part`, one of dlkit's $kind, in a package of its own.

```sh
pip install -e '.[test]'
dlkit list $kind -v
pytest
```

In a Recipe:

```yaml
$use
```
"""
TEST = """\
\"\"\"The part keeps dlkit's contract. Add tests of what is its own: a value by hand, a limit, an inverse.\"\"\"

from collections.abc import Callable

import pytest

from dlkit.testing import checks


@pytest.mark.parametrize("check", checks("$kind", "$part"), ids=repr)
def test_contract(check: Callable[[], None]) -> None:
    check()
"""


def new_plugin(name: str, out: str | Path = ".", kind: str = "objectives") -> Path:
    """Write a package with one part, its entry point, its tests and a README.

    Args:
        name: of the distribution, such as ``my-objective``; with underscores it names the package and the part.
        out: the folder that the package's folder is put into.
        kind: of the part.

    Returns:
        the folder of the package.

    Raises:
        UserError: the name or the kind cannot be used, or the folder exists or cannot be written.
    """
    part, folder = name.replace("-", "_"), Path(out) / name
    _refuse(name, part, kind)
    if folder.exists():
        raise UserError(f"{folder} exists; choose another name, or another place with --out")
    with atomic_folder(folder) as temporary:
        for file, text in _files(name, part, kind).items():
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            (temporary / file).write_text(text, encoding="utf-8")
    return folder


def _refuse(name: str, part: str, kind: str) -> None:
    if kind not in KINDS:
        raise UserError(f"there is no kind {kind!r}; known: {', '.join(KINDS)}")
    if not NAME.fullmatch(name) or keyword.iskeyword(part):
        raise UserError(f"{name!r} cannot name a package; use lower-case words with hyphens, such as my-part")
    if part in importlib.import_module(KINDS[kind]).names():
        raise UserError(f"{kind}: the name {part!r} is taken; choose another")
    found = util.find_spec(part)
    if found is not None and found.loader is not None and found.origin is not None:
        raise UserError(f"there is a module {part!r} already; choose another name")


def _files(name: str, part: str, kind: str) -> dict[str, str]:
    """What the package consists of, by file."""
    words = {"name": name, "part": part, "kind": kind, "needs": _needs()}
    words["use"] = Template(IN_A_RECIPE[kind]).substitute(words)
    title = "".join(word.capitalize() for word in part.split("_"))
    source = resources.files(__name__).joinpath(f"{kind}.py").read_text(encoding="utf-8")
    return {
        "pyproject.toml": Template(PYPROJECT).substitute(words),
        "README.md": Template(README).substitute(words),
        f"src/{part}/__init__.py": f'"""{part} for dlkit, which finds it by its entry point."""\n',
        f"src/{part}/{part}.py": source.replace("Starter", title).replace("starter", part),
        f"tests/test_{part}.py": Template(TEST).substitute(words),
    }


def _needs() -> str:
    """This version of dlkit and later ones, up to the next that may break plugins: in 0.x each minor one may."""
    major, minor, *_ = (int(number) for number in __version__.split(".")[:2])
    end = f"0.{minor + 1}" if major == 0 else f"{major + 1}"
    return f"{DISTRIBUTION}>={major}.{minor},<{end}"
