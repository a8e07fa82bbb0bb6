"""Packages with parts, as the command line and a run see them: those that work, and those that do not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny
from dlkit import __version__, metrics
from plugin_packages import install

ROOT = Path(__file__).parents[1]
METRIC = """
from typing import ClassVar
from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric

@register("{name}", description="a number")
class Mine(SourceMetric):
    \"\"\"Always 0.25.\"\"\"

    higher_is_better: ClassVar[bool] = True

    def of_source(self, case: Case) -> float:
        return 0.25
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages, of which one works and each of the others fails in its own way."""
    folder = tmp_path_factory.mktemp("site")
    broken = {
        "wrong-import": ("import no_such_module", ()),
        "wrong-class": (METRIC.format(name="wrong_class").replace("SourceMetric", "Case"), ()),
        "wrong-version": (METRIC.format(name="wrong_version"), ("dlkit-lm>=999",)),
        "clash-a": (METRIC.format(name="clash"), ()),
        "clash-b": (METRIC.format(name="clash"), ()),
        "clash-own": (METRIC.format(name="bleu"), ()),
    }
    for name, (source, requires) in {"good": (METRIC.format(name="good"), ()), **broken}.items():
        module = name.replace("-", "_")
        part = {"clash_a": "clash", "clash_b": "clash", "clash_own": "bleu"}.get(module, module)
        (folder / f"{module}.py").write_text(source)
        install(folder, name, {"metrics": {part: module}}, requires, version="0.3")
    return folder


TOLD = {
    "wrong_import": "metrics: plugin 'wrong_import' of wrong-import cannot be loaded (ModuleNotFoundError: No module"
    " named 'no_such_module'); mend or uninstall that package",
    "wrong_class": "metrics: plugin 'wrong_class' of wrong-class cannot be loaded (TypeError: metrics: Mine must derive"
    " from dlkit.metrics._base.Metric); mend or uninstall that package",
    "wrong_version": "metrics: plugin 'wrong_version' of wrong-version needs dlkit-lm>=999, but this is dlkit-lm"
    f" {__version__}; install another version of either",
    "clash": "metrics: the name 'clash' is declared by clash-a and clash-b; uninstall all but one of them",
    "bleu": "metrics: plugin 'bleu' of clash-own is not used, because dlkit has a part of that name; the plugin must"
    " choose another",
}


def dlkit(site: Path, *args: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "dlkit", *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verbose", [[], ["-v"]], ids=["list", "list -v"])
def test_list_says_where_each_part_comes_from_and_which_cannot_be_used(verbose: list[str], site: Path) -> None:
    done = dlkit(site, "list", *verbose)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "  good             good 0.3" in lines
    assert "  bleu             dlkit" in lines
    assert "  clash            clash-a 0.3, clash-b 0.3" in lines
    for name, told in TOLD.items():
        place = next(number for number, line in enumerate(lines) if line.startswith(f"  {name} "))
        assert lines[place + 1] == f"      broken: {told}"
    assert "  sid              dlkit" in lines
    assert (f"      file: {site}/good.py:6" in lines) == bool(verbose)
    assert (f"      {metrics.entry('bleu').description}" in lines) == bool(verbose)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    data = tiny.corpus(folder / "data")
    tiny.recipe(stages=[{"steps": 1}], evaluation={"every": 1}).to_yaml(folder / "recipe.yaml")
    tiny.run_fit(data, folder / "fit")
    yield folder


@pytest.mark.parametrize("name", ["wrong_import", "bleu", "good"])
def test_a_run_that_names_a_plugin(name: str, site: Path, world: Path, tmp_path: Path) -> None:
    """A broken one is the user's mistake; a name that is also dlkit's own stands for that, with a warning."""
    fit, data = world / "fit", world / "data"
    out = ["--teacher", fit, "--data", data, "--out", tmp_path / "run", "--recipe", world / "recipe.yaml"]
    done = dlkit(site, "distill", *out, "--set", f"evaluation.metric={name}")
    if name in ("good", "bleu"):
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(TOLD["bleu"]) == 1  # the Recipe's file names it
        return
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if TOLD["bleu"] not in line] == [f"dlkit: --set: {TOLD[name]}"]
    assert not (tmp_path / "run").exists()


def test_eval_computes_what_works_and_tells_of_the_rest(site: Path, world: Path) -> None:
    done = dlkit(site, "eval", "--model", world / "fit", "--data", world / "data", "--limit", 2, "--steps", 1)
    assert done.returncode == 0, done.stderr
    assert '"good": 0.25' in done.stdout
    assert '"bleu": ' in done.stdout
    assert sorted(done.stderr.splitlines()) == sorted(f"dlkit: warning: {told}" for told in TOLD.values())
