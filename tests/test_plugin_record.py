"""Models and checkpoints say which plugins they need, and loading them without says so in one line."""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import dlkit
import tiny
from dlkit import discriminators, metrics, objectives
from dlkit.errors import Notice, UserError
from dlkit.generator import load
from dlkit.part import plugins_of
from dlkit.plugins import check_installed
from dlkit.training import checkpoint
from plugin_packages import install

PARTS = """
from dlkit.discriminators import register as register_head
from dlkit.discriminators.mean_pool import MeanPool
from dlkit.metrics import register as register_metric
from dlkit.metrics.dist_1 import Dist1
from dlkit.objectives import register as register_objective
from dlkit.objectives.dmd import Dmd

@register_metric("own_metric", description="dist_1")
class OwnMetric(Dist1):
    "dist_1"

@register_head("own_head", description="mean_pool")
class OwnHead(MeanPool):
    "mean_pool"

@register_objective("own_objective", description="dmd")
class OwnObjective(Dmd):
    "dmd"
"""
MODULE = "own_parts_of_a_test"
POINTS = {
    "metrics": {"own_metric": MODULE},
    "discriminators": {"own_head": MODULE},
    "objectives": {"own_objective": MODULE},
}
OWN = {"evaluation": {"metric": "own_metric"}}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """The parts of the plugin are gone after each test."""
    yield
    forget()


def forget() -> None:
    sys.modules.pop(MODULE, None)
    for registry in (discriminators.registry, metrics.registry, objectives.registry):
        for name in [name for name in registry._entries if name.startswith("own_")]:
            del registry._entries[name]


def put(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    (folder / f"{MODULE}.py").write_text(PARTS)
    install(folder, "dlkit-own", POINTS, version=version)
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The plugin in two versions."""
    folder = tmp_path_factory.mktemp("sites")
    return {version: put(folder / version, version) for version in ("0.1.0", "0.2.0")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, sites: dict[str, Path]) -> Path:
    """A teacher and a student whose Recipes name a part of version 0.1.0."""
    folder = tmp_path_factory.mktemp("world")
    data = tiny.corpus(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(sites["0.1.0"])
        tiny.run_fit(data, folder / "fit", **OWN)
        tiny.run_distill(folder / "fit", data, folder / "distill", **OWN)
    forget()
    return folder


def test_parts_are_found_at_any_depth(sites: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(sites["0.2.0"])
    recorded = {"dlkit-own": "0.2.0"}
    assert plugins_of(dlkit.Recipe(adv={"head": "own_head"})) == recorded
    assert plugins_of(dlkit.Recipe(stages=[{"steps": 1}, {"objective": "own_objective"}])) == recorded
    assert plugins_of(dlkit.Recipe(evaluation={"metric": "own_metric"})) == recorded
    assert plugins_of(dlkit.Recipe(adv=True)) == {}


def test_of_two_distributions_with_one_package_the_one_that_declares_the_part_counts(
    sites: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "dlkit-also", {"schedules": {"other": f"{MODULE}.other"}})
    monkeypatch.syspath_prepend(sites["0.2.0"])
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins_of(dlkit.Recipe(objective="own_objective")) == {"dlkit-own": "0.2.0"}


@pytest.mark.parametrize(("run", "kind"), [("fit", "teacher"), ("distill", "student")])
def test_folders_and_checkpoints_say_what_they_need(run: str, kind: str, world: Path) -> None:
    step = checkpoint.latest(world / run / "checkpoints")
    assert step is not None
    for file in (world / run / kind / "config.json", step / "state.json"):
        assert json.loads(file.read_text())["plugins"] == {"dlkit-own": "0.1.0"}


@pytest.mark.parametrize("run", ["fit", "distill"])
def test_a_missing_plugin_is_named_with_its_version(run: str, world: Path) -> None:
    with pytest.raises(UserError) as error:
        load(world / run)
    assert str(error.value).endswith(
        f"{run}/{'teacher' if run == 'fit' else 'student'} needs the plugin dlkit-own 0.1.0, not installed here; "
        "pip install dlkit-own==0.1.0"
    )
    step = checkpoint.latest(world / run / "checkpoints")
    assert step is not None
    with pytest.raises(UserError, match=r"the checkpoint .* needs the plugin dlkit-own 0\.1\.0, not installed here"):
        checkpoint.load(step)


def test_another_version_is_a_notice(world: Path, sites: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(sites["0.2.0"])
    with pytest.warns(Notice, match=r"student was made with dlkit-own 0\.1\.0, installed is 0\.2\.0"):
        student = dlkit.load_student(world / "distill")
    assert student.config()["plugins"] == {"dlkit-own": "0.2.0"}
    monkeypatch.setattr(sys, "path", [str(sites["0.1.0"]), *sys.path])
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = dlkit.load_student(world / "distill")
    assert same.fingerprint() == student.fingerprint()


def test_a_run_goes_on_with_another_version(
    world: Path, sites: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(sites["0.2.0"])
    with pytest.warns(Notice, match=r"the checkpoint .* was made with dlkit-own 0\.1\.0, installed is 0\.2\.0"):
        tiny.run_fit(world / "data", world / "fit", resume=True, **OWN)
    state = json.loads((world / "fit/teacher/config.json").read_text())
    assert state["plugins"] == {"dlkit-own": "0.2.0"}  # who wrote the folder last


def test_several_missing_plugins_are_one_line() -> None:
    with pytest.raises(UserError) as error:
        check_installed({"dlkit-a": "1", "dlkit-b": "2.0"}, "m")
    assert str(error.value) == (
        "m needs the plugins dlkit-a 1 and dlkit-b 2.0, not installed here; pip install dlkit-a==1 dlkit-b==2.0"
    )


@pytest.mark.parametrize("damaged", [["dlkit-own"], {"dlkit-own": 1}, {"": "1"}, "dlkit-own"])
def test_a_damaged_record_is_refused(damaged: object) -> None:
    with pytest.raises(UserError, match=r"m: 'plugins' must hold names and versions, not .*; restore it"):
        check_installed(damaged, "m")
