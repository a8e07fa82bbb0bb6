"""Registries: names without imports, lookups that import one file, plugins, and errors that help."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlkit.errors import UserError
from dlkit.registry import Registry

PACKAGE = Path(__file__).parents[1] / "dlkit"
HOLDERS = sorted(
    ".".join(init.parent.relative_to(PACKAGE.parent).parts)
    for init in PACKAGE.rglob("__init__.py")
    if "= Registry(" in init.read_text()
)

PART = """
from {package} import registry

@registry.register("{name}", description="a colour", paper="Newton, 1704", licence="MIT")
class {cls}:
    pass
"""


def built_in() -> list[tuple[str, str]]:
    return [(holder, name) for holder in HOLDERS for name in importlib.import_module(holder).registry.files()]


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A package of two parts, ``red`` and ``green``, and one private module."""
    package = tmp_path / "colours"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        "from dlkit.registry import Registry\nregistry = Registry('colours', __name__)\n"
    )
    package.joinpath("_shared.py").write_text("")
    for name in ("red", "green"):
        write_part(package / f"{name}.py", name)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("colours").registry
    for module in [module for module in sys.modules if module.split(".")[0] in ("colours", "paint")]:
        del sys.modules[module]


def write_part(file: Path, name: str) -> None:
    file.write_text(PART.format(package="colours", name=name, cls=name.capitalize()))


def install_plugin(folder: Path, entry_points: str) -> None:
    """Lay the metadata of an installed distribution called ``paint`` beside its module."""
    info = folder / "paint-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: paint\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[dlkit.colours]\n{entry_points}\n")


def test_names_imports_nothing(colours: Registry) -> None:
    assert colours.names() == ["green", "red"]
    assert not {"colours.red", "colours.green"} & set(sys.modules)


def test_a_lookup_imports_one_file(colours: Registry) -> None:
    assert colours.get("red").__name__ == "Red"
    assert "colours.red" in sys.modules
    assert "colours.green" not in sys.modules


def test_an_entry_tells_what_a_reader_wants_to_know(colours: Registry) -> None:
    entry = colours.entry("red")
    assert (entry.name, entry.description, entry.paper) == ("red", "a colour", "Newton, 1704")
    assert (entry.licence, entry.origin) == ("MIT", "colours")
    file, _, line = entry.location.rpartition(":")
    assert file.endswith("colours/red.py")
    assert int(line) > 1
    assert entry.part.registered_name == "red"


def test_an_unknown_name_lists_near_matches(colours: Registry) -> None:
    with pytest.raises(UserError, match=r"^colours: nothing is called 'gren'; did you mean 'green'"):
        colours.get("gren")


def test_a_name_like_no_other_lists_all(colours: Registry) -> None:
    with pytest.raises(UserError, match="known: green, red"):
        colours.get("zzz")


def test_private_modules_are_no_parts(colours: Registry) -> None:
    with pytest.raises(UserError):
        colours.get("_shared")


def test_a_taken_name_is_refused(colours: Registry) -> None:
    colours.get("red")
    with pytest.raises(ValueError, match=r"colours: the name 'red' is taken by .*red\.py:\d+; choose another"):

        @colours.register("red", description="another")
        class Crimson:
            pass


def test_the_same_class_may_register_again(colours: Registry) -> None:
    colours.get("red")
    importlib.reload(sys.modules["colours.red"])
    assert colours.get("red") is sys.modules["colours.red"].Red


def test_a_plugin_is_found_and_loaded_on_lookup(colours: Registry, tmp_path: Path) -> None:
    install_plugin(tmp_path, "blue = paint")
    write_part(tmp_path / "paint.py", "blue")
    assert colours.names() == ["blue", "green", "red"]
    assert "paint" not in sys.modules
    assert colours.get("blue").__name__ == "Blue"
    assert colours.entry("blue").origin == "paint"


def test_a_built_in_part_wins_over_a_plugin(colours: Registry, tmp_path: Path) -> None:
    install_plugin(tmp_path, "red = paint")
    write_part(tmp_path / "paint.py", "red")
    assert colours.entry("red").origin == "colours"
    assert "paint" not in sys.modules


def test_a_broken_plugin_is_named_and_harms_nothing_else(colours: Registry, tmp_path: Path) -> None:
    install_plugin(tmp_path, "blue = paint")
    tmp_path.joinpath("paint.py").write_text("import no_such_module\n")
    assert "blue" in colours.names()
    assert colours.get("red").__name__ == "Red"
    with pytest.raises(
        UserError, match=r"plugin 'blue' of paint cannot be loaded \(ModuleNotFoundError: .*no_such_module"
    ):
        colours.get("blue")
    assert colours.entry("green").origin == "colours"


@pytest.mark.parametrize(("holder", "name"), built_in())
def test_every_file_registers_its_own_name(holder: str, name: str) -> None:
    entry = importlib.import_module(holder).registry.entry(name)
    assert entry.name == name
    assert entry.part.registered_name == name
    assert entry.part.__module__ == f"{holder}.{name}"
    assert entry.description


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_registry_belongs_to_its_package(holder: str) -> None:
    module = importlib.import_module(holder)
    assert module.registry.package == holder
    assert module.registry.kind == holder.rpartition(".")[2]
    assert module.names() == module.registry.names()


LAZINESS = """
import importlib, sys
for holder in sys.argv[1:]:
    before = set(sys.modules)
    registry = importlib.import_module(holder).registry
    opened = set(sys.modules) - before
    parts = {f"{holder}.{name}" for name in registry.names()}
    assert not opened & parts, f"importing {holder} imports {opened & parts}"
    late = {name for name in set(sys.modules) - before - opened if name.partition(".")[0] in ("dlkit", "torch")}
    assert not late, f"{holder}.names() imports {late}"
"""


def test_packages_and_names_import_no_part() -> None:
    """In a process of its own, because here other tests have imported the parts already."""
    done = subprocess.run(
        [sys.executable, "-c", LAZINESS, *HOLDERS], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
