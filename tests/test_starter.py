"""``dlkit new-plugin``: what it writes works, and what it cannot write is refused."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dlkit import __version__
from dlkit.errors import UserError
from dlkit.registry import KINDS
from dlkit.starter import new_plugin
from plugin_packages import install

ROOT = Path(__file__).parents[1]
NO_CACHE = ("-p", "no:cacheprovider")
QUICK = "not compiles and not distils and not fits and not is_a_teacher"
STRICT = ("-o", "filterwarnings=error\nignore::DeprecationWarning:torch")  # whose compiler uses what it deprecated


def installed(package: Path, site: Path) -> dict[str, str]:
    """The environment of a process in which a package is installed, as its own pyproject.toml says."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    points = {group.removeprefix("dlkit."): parts for group, parts in project["entry-points"].items()}
    install(site, project["name"], points, tuple(project["dependencies"]), project["version"])
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (site, package / "src", ROOT)))}


def process(environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("objectives", QUICK),  # one kind is enough for the fast tests: each takes a process of its own
        pytest.param("objectives", f"not ({QUICK})", marks=pytest.mark.slow),
        *(
            pytest.param(kind, f"compiles or ({QUICK})", marks=pytest.mark.slow)
            for kind in KINDS
            if kind != "objectives"
        ),
    ],
    ids=["quick", "the rest", *(kind for kind in KINDS if kind != "objectives")],
)
def test_a_starter_of_every_kind_passes_its_tests(kind: str, some: str, tmp_path: Path) -> None:
    package = new_plugin("my-first", tmp_path, kind)
    environment = installed(package, tmp_path / "site")
    done = process(environment, "-m", "pytest", "-q", *STRICT, "-k", some, *NO_CACHE, str(package))
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    listed = process(environment, "-m", "dlkit", "list", kind, "-v")
    assert "my_first         my-first 0.1.0" in listed.stdout
    assert str(package / "src/my_first/my_first.py") in listed.stdout
    assert (listed.returncode, "broken" in listed.stdout) == (0, False)


def test_what_is_written(tmp_path: Path) -> None:
    package = new_plugin("loss-of-mine", tmp_path / "new" / "place")
    assert package == tmp_path / "new" / "place" / "loss-of-mine"
    files = sorted(file.relative_to(package).as_posix() for file in package.rglob("*") if file.is_file())
    part = "src/loss_of_mine/loss_of_mine.py"
    assert files == ["README.md", "pyproject.toml", "src/loss_of_mine/__init__.py", part, "tests/test_loss_of_mine.py"]
    assert '@register("loss_of_mine"' in (package / part).read_text()
    assert "class LossOfMine(Objective)" in (package / part).read_text()
    assert not any("tarter" in (package / file).read_text() or "$" in (package / file).read_text() for file in files)
    needs = tomllib.loads((package / "pyproject.toml").read_text())["project"]["dependencies"]
    assert needs == [f"dlkit-lm>={'.'.join(__version__.split('.')[:2])},<0.2"]


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("My-Part", "objectives", "'My-Part' cannot name a package; use lower-case words with hyphens"),
        ("../up", "objectives", "cannot name a package"),
        ("", "objectives", "cannot name a package"),
        ("1st", "objectives", "cannot name a package"),
        ("class", "objectives", "cannot name a package"),
        ("sid", "objectives", "objectives: the name 'sid' is taken"),
        ("json", "objectives", "there is a module 'json' already"),
        ("dlkit", "objectives", "there is a module 'dlkit' already"),
        ("mine", "objective", "there is no kind 'objective'; known: schedules, "),
    ],
)
def test_what_cannot_be_used_is_refused(name: str, kind: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told) as error:
        new_plugin(name, tmp_path, kind)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="mine exists; choose another name, or another place with --out"):
        new_plugin("mine", tmp_path)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot write"):
        new_plugin("mine", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    assert list((tmp_path / "mine").iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = process(environment, "-m", "dlkit", "new-plugin", "mine", "--out", str(tmp_path), "--kind", "metrics")
    assert (done.returncode, done.stdout.split(";")[0]) == (0, f"plugin: {tmp_path / 'mine'}")
    again = process(environment, "-m", "dlkit", "new-plugin", "mine", "--out", str(tmp_path))
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "exists" in again.stderr


def test_every_kind_has_a_starter() -> None:
    files = {file.stem for file in (ROOT / "dlkit/starter").glob("*.py")} - {"__init__"}
    assert files == set(KINDS)
