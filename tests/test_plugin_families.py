"""Teacher families of plugins: their checkpoints are found out, imported and exported like those of dlkit's own.

The family is that of the example package ``plugins/dlkit-anchor``, made to look installed.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlkit
import tiny
from dlkit import backbones, cli, teachers
from dlkit.errors import UserError
from dlkit.generator import load
from dlkit.plugins import PluginWarning
from dlkit.teachers._base import ReadOptions
from official_run import run_folder
from plugin_packages import install

SOURCE = Path(__file__).parents[1] / "plugins/dlkit-anchor/src"
pytestmark = pytest.mark.skipif(not SOURCE.is_dir(), reason="the example plugins are not beside the tests")

POINTS = {"teachers": {"anchor": "dlkit_anchor.anchor"}, "backbones": {"gated_conv": "dlkit_anchor.gated_conv"}}
ANCHOR = {
    "family": {"name": "anchor", "anchor_weight": 0.5},
    "backbone": {"name": "gated_conv", "layers": 1, "hidden": 8},
}
GREEDY = """
from dlkit.teachers import register
from dlkit_anchor.anchor import Anchor

@register("greedy", description="takes every checkpoint for its own")
class Greedy(Anchor):
    "anchor"

    def recognises(self, path):
        {answer}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path in which the plugin is installed; it is gone after the tests of this file."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "dlkit_anchor").symlink_to(SOURCE / "dlkit_anchor")
    install(folder, "dlkit-anchor", POINTS, version="0.1.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("dlkit_anchor", "greedy_family")]:
        del sys.modules[name]
    for registry in (teachers.registry, backbones.registry):
        for name in ("anchor", "gated_conv", "greedy"):
            registry._entries.pop(name, None)


@pytest.fixture(scope="module")
def teacher(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anchor")
    return tiny.run_fit(tiny.corpus(folder / "data"), folder / "run", model=ANCHOR)


def command(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["dlkit", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_out_and_in_again(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a word on whose format it is."""
    checkpoint, again = tmp_path / "checkpoint", tmp_path / "again"
    assert command(monkeypatch, "export", "--model", teacher, "--out", checkpoint) == 0
    assert {path.name for path in checkpoint.iterdir()} >= {"weights.npz", "settings.json"}
    capsys.readouterr()
    assert command(monkeypatch, "import", checkpoint, "--out", again) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"teacher: {again}"
    assert [line.split()[:2] for line in lines if "backbone.up" in line] == [
        ["used", "backbone.up.bias"],
        ["used", "backbone.up.weight"],
    ]
    assert tiny.weights(again) == tiny.weights(teacher)
    assert json.loads((again / "import.json").read_text())["family"] == "anchor"
    assert json.loads((again / "config.json").read_text())["plugins"] == {"dlkit-anchor": "0.1.0"}
    first, second = dlkit.load_teacher(teacher), dlkit.load_teacher(again)
    assert second.architecture == first.architecture
    assert second.recipe.fit == first.recipe.fit


def test_a_checkpoint_is_loaded_as_it_is(teacher: Path, tmp_path: Path) -> None:
    checkpoint = dlkit.export_teacher(teacher, tmp_path / "checkpoint", "anchor")
    wanted = dlkit.load_teacher(teacher).generate(["w"], steps=2)
    for model in (dlkit.load_teacher(checkpoint), load(checkpoint), dlkit.load_teacher(checkpoint, family="anchor")):
        assert model.generate(["w"], steps=2) == wanted
    student = tiny.run_distill(checkpoint, tiny.corpus(tmp_path / "data"), tmp_path / "run")
    assert dlkit.load_student(student).config()["plugins"] == {"dlkit-anchor": "0.1.0"}


def test_families_do_not_take_each_others_checkpoints(teacher: Path, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    with pytest.warns(UserWarning, match="differ by up to"):
        assert dlkit.load_teacher(run).architecture.family.registered_name == "diffuseq"
    with pytest.raises(UserError, match=r"settings\.json is missing"):
        dlkit.load_teacher(run, family="anchor")
    with pytest.raises(UserError, match="backbone"):
        dlkit.export_teacher(teacher, tmp_path / "out", "diffuseq")
    with pytest.raises(UserError, match="teachers: nothing is called 'ancor'; did you mean 'anchor'"):
        dlkit.load_teacher(run, family="ancor")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        dlkit.import_teacher(tmp_path / "empty", tmp_path / "t")
    assert str(error.value) == (
        f"{tmp_path / 'empty'} is no official checkpoint; give a folder with weights.npz and settings.json "
        "or a run folder with ema_*.pt and training_args.json or a Lightning checkpoint *.ckpt "
        "or a folder with noise_schedule.pt, gamma_bounds.pt, embedding_matrix.pt and model.pt"
    )


@pytest.mark.parametrize("table", [["a", "b"], 3.0])
def test_what_goes_wrong_in_a_plugin_is_told_by_its_name(
    table: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = dlkit.export_teacher(teacher, tmp_path / "checkpoint", "anchor")
    whole = dict(np.load(checkpoint / "weights.npz"))
    np.savez(checkpoint / "weights.npz", **{**whole, "space.word_embedding.weight": np.array(table)})
    with pytest.raises(UserError, match="teacher family 'anchor' could not read it") as error:
        dlkit.import_teacher(checkpoint, tmp_path / "t", ReadOptions(family="anchor"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "t").exists()

    def lost(*given: object) -> None:
        raise RuntimeError("no\nway")

    monkeypatch.setattr(type(dlkit.load_teacher(teacher).architecture.family), "write", lost)
    with pytest.raises(UserError, match=r"the teacher family 'anchor' could not write it \(RuntimeError: no way\)"):
        dlkit.export_teacher(teacher, tmp_path / "other", "anchor")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("teacher")
def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist; give a folder with"):
        dlkit.load_teacher(tmp_path / "nowhere", family="diffuseq")


@pytest.mark.parametrize("answer", ["return True", "raise RuntimeError('lost')"])
def test_a_family_that_is_wrong_about_checkpoints(
    answer: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two families that claim one checkpoint are told apart by the user; one that fails harms no other."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/greedy_family.py").write_text(GREEDY.format(answer=answer))
    install(tmp_path / "site", "greedy", {"teachers": {"greedy": "greedy_family"}})
    monkeypatch.syspath_prepend(tmp_path / "site")
    run = run_folder(tmp_path / "run")
    try:
        if answer == "return True":
            with pytest.raises(UserError, match=r"may be a checkpoint of diffuseq and greedy; say which with --family"):
                dlkit.load_teacher(run)
            with pytest.warns(UserWarning, match="differ by up to"):
                dlkit.load_teacher(run, family="diffuseq")
        else:
            with pytest.warns(PluginWarning, match=r"teachers: 'greedy' cannot tell whether .* \(RuntimeError: lost\)"):
                model = dlkit.import_teacher(run, tmp_path / "t")
            assert model.parts.seq_len == 16
    finally:
        teachers.registry._entries.pop("greedy", None)
        sys.modules.pop("greedy_family", None)
