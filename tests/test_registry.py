"""Registries: names without imports, lookups that import one file, plugins, and errors that help."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlkit import __version__
from dlkit.errors import UserError
from dlkit.plugins import PluginWarning
from dlkit.registry import Registry
from plugin_packages import install

PACKAGE = Path(__file__).parents[1] / "dlkit"
HOLDERS = sorted(
    ".".join(init.parent.relative_to(PACKAGE.parent).parts)
    for init in PACKAGE.rglob("__init__.py")
    if "= Registry(" in init.read_text()
)

BASE = """
from abc import ABC, abstractmethod
from typing import ClassVar

class Colour(ABC):
    __class_vars__ = {"wavelength"}
    wavelength: ClassVar[float]

    @abstractmethod
    def mix(self): ...
"""
PART = """
from {package} import registry
from {package}._base import Colour

@registry.register("{name}", description="a colour", paper="Newton, 1704", licence="MIT")
class {cls}(Colour):
    wavelength = 500.0

    def mix(self):
        return self
"""


def built_in() -> list[tuple[str, str]]:
    return [(holder, name) for holder in HOLDERS for name in importlib.import_module(holder).registry.files()]


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A package of two parts, ``red`` and ``green``, and one private module."""
    package = tmp_path / "colours"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        "from dlkit.registry import Registry\nregistry = Registry('colours', __name__, base='colours._base:Colour')\n"
    )
    package.joinpath("_base.py").write_text(BASE)
    for name in ("red", "green"):
        write_part(package / f"{name}.py", name)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("colours").registry
    for module in [module for module in sys.modules if module.split(".")[0] in ("colours", "paint", "lacquer")]:
        del sys.modules[module]


def write_part(file: Path, name: str) -> None:
    file.write_text(PART.format(package="colours", name=name, cls=name.capitalize()))


def install_plugin(folder: Path, entry_points: str, name: str = "paint", requires: tuple[str, ...] = ()) -> None:
    """A distribution with colours beside its modules: "blue = paint, grey = paint.grey"."""
    parts = dict(point.split(" = ") for point in entry_points.split(", "))
    install(folder, name, {"colours": parts}, requires)


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


def test_a_built_in_part_wins_over_a_plugin_and_that_is_told(colours: Registry, tmp_path: Path) -> None:
    install_plugin(tmp_path, "red = paint")
    write_part(tmp_path / "paint.py", "red")
    line = r"^colours: plugin 'red' of paint is not used, because dlkit has a part of that name"
    with pytest.warns(PluginWarning, match=line):
        assert colours.entry("red").origin == "colours"
    assert "paint" not in sys.modules
    assert list(colours.broken()) == ["red"]


def test_a_plugin_cannot_take_the_name_of_a_built_in_part_that_is_not_loaded_yet(colours: Registry) -> None:
    with pytest.raises(ValueError, match=r"colours: the name 'green' is taken by colours\.green; choose another"):
        colours.register("green", description="another")(colours.get("red"))


BREAKAGES = {
    "an import error": ("import no_such_module", r"ModuleNotFoundError: .*no_such_module"),
    "a syntax error": ("def", "SyntaxError"),
    "a way out": ("raise SystemExit('enough\\nof this')", r"SystemExit: enough of this"),
    "nothing registered": ("", "paint registers nothing of that name"),
    "another name registered": (PART.format(package="colours", name="azure", cls="Azure"), "registers nothing of that"),
    "the wrong base": (
        "from colours import registry\n@registry.register('blue', description='')\nclass Blue: pass",
        r"TypeError: colours: Blue must derive from colours\._base\.Colour",
    ),
    "an unfinished interface": (
        "from colours import registry\nfrom colours._base import Colour\n"
        "@registry.register('blue', description='')\nclass Blue(Colour): pass",
        "TypeError: colours: Blue lacks mix, wavelength, which Colour asks for",
    ),
    "the name of another part": (PART.format(package="colours", name="red", cls="Blue"), "name 'red' is taken by"),
    "a failure after registering": (
        PART.format(package="colours", name="blue", cls="Blue") + "\n1 / 0",
        "ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BREAKAGES.values(), ids=list(BREAKAGES))
def test_a_broken_plugin_is_named_and_harms_nothing_else(
    source: str, reason: str, colours: Registry, tmp_path: Path
) -> None:
    install_plugin(tmp_path, "blue = paint")
    tmp_path.joinpath("paint.py").write_text(source)
    install_plugin(tmp_path, "white = lacquer", name="lacquer")
    write_part(tmp_path / "lacquer.py", "white")
    told = rf"^colours: plugin 'blue' of paint cannot be loaded \(.*{reason}.*\); mend or uninstall that package$"
    for _ in range(2):  # the second time its module may be there already
        with pytest.raises(UserError, match=told) as error:
            colours.get("blue")
        assert "\n" not in str(error.value)
    assert colours.entry("red").origin == "colours"
    assert colours.entry("white").origin == "lacquer"
    assert list(colours.broken()) == ["blue"]
    with pytest.warns(PluginWarning, match=told):
        assert {"green", "red", "white"} <= set(colours.usable()) <= {"azure", "green", "red", "white"}


def test_a_module_that_fails_does_not_take_back_what_another_has_registered(colours: Registry, tmp_path: Path) -> None:
    install_plugin(tmp_path, "blue = paint, grey = lacquer")
    write_part(tmp_path / "lacquer.py", "grey")
    tmp_path.joinpath("paint.py").write_text("import lacquer, no_such_module")
    with pytest.raises(UserError):
        colours.get("blue")
    assert colours.entry("grey").origin == "paint"


def test_two_plugins_of_one_name_are_both_refused(colours: Registry, tmp_path: Path) -> None:
    for name in ("paint", "lacquer"):
        install_plugin(tmp_path, f"blue = {name}", name=name)
        write_part(tmp_path / f"{name}.py", "blue")
    told = r"^colours: the name 'blue' is declared by lacquer and paint; uninstall all but one of them$"
    with pytest.raises(UserError, match=told):
        colours.get("blue")
    assert colours.names() == ["blue", "green", "red"]
    assert colours.get("red").__name__ == "Red"


@pytest.mark.parametrize(
    ("requires", "fits"),
    [
        (("dlkit-lm",), True),
        ((f"dlkit_lm=={__version__}", "torch>=999"), True),
        (('dlkit-lm>=999; extra == "later"',), True),
        (("dlkit-lm>=999",), False),
        (("DLKit.LM<0.0.1",), False),
    ],
)
def test_a_plugin_for_another_version_is_refused(
    requires: tuple[str, ...], fits: bool, colours: Registry, tmp_path: Path
) -> None:
    install_plugin(tmp_path, "blue = paint", requires=requires)
    write_part(tmp_path / "paint.py", "blue")
    if fits:
        assert colours.get("blue").__name__ == "Blue"
        return
    with pytest.raises(
        UserError, match=rf"plugin 'blue' of paint needs .*, but this is dlkit-lm {__version__}; install"
    ):
        colours.get("blue")
    assert "paint" not in sys.modules


def test_damaged_metadata_of_one_distribution_harms_no_other(colours: Registry, tmp_path: Path) -> None:
    install_plugin(tmp_path, "blue = paint")
    write_part(tmp_path / "paint.py", "blue")
    install_plugin(tmp_path, "white = lacquer", name="lacquer")
    (tmp_path / "lacquer-1.0.dist-info" / "entry_points.txt").write_text("[dlkit.colours]\nno equals sign\n")
    with pytest.warns(PluginWarning, match=r"lacquer-1\.0\.dist-info: damaged metadata"):
        assert colours.names() == ["blue", "green", "red"]


def test_of_a_distribution_that_is_installed_twice_the_first_counts(
    colours: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("later", "first"):
        install_plugin(tmp_path / folder, "blue = paint")
        write_part(tmp_path / folder / "paint.py", "blue")
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    assert colours.entry("blue").location.startswith(str(tmp_path / "first"))


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
