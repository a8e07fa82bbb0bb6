"""The folder of a run: who may use it, and its log."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from dlkit.errors import UserError
from dlkit.recipe import Recipe
from dlkit.training.folder import Clock, RunFolder, read_log

RECIPE = Recipe()


def open_folder(path: Path, resume: bool = False, recipe: Recipe = RECIPE, **inputs: Any) -> RunFolder:
    return RunFolder(path, "train", recipe, {"seed": 0, **inputs}, resume)


def begun(path: Path) -> RunFolder:
    folder = open_folder(path)
    folder.rewind(0)
    return folder


def test_a_new_folder_says_what_the_run_is(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run"
    folder = open_folder(path)
    assert not path.exists()  # the first to write is rewind
    folder.rewind(0)
    assert Recipe.from_yaml(path / "recipe.yaml") == RECIPE
    assert json.loads((path / "run.json").read_text()) == {"command": "train", "seed": 0, "recipe": RECIPE.to_dict()}
    assert (path / "log.jsonl").read_text() == ""


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    with pytest.raises(UserError, match="already holds a run; give an empty folder, or --resume"):
        open_folder(tmp_path / "run")
    open_folder(tmp_path / "run", resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_other_files_are_refused(resume: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds other files and no run; give an empty folder"):
        open_folder(tmp_path, resume)
    with pytest.raises(UserError, match="is a file; give a folder"):
        open_folder(tmp_path / "thesis.tex", resume)


@pytest.mark.parametrize("resume", [False, True])
def test_an_empty_folder_is_fine(resume: bool, tmp_path: Path) -> None:
    (tmp_path / ".run.json.0a.tmp").write_text("{")
    open_folder(tmp_path, resume).rewind(0)
    assert (tmp_path / "run.json").exists()


def test_another_run_is_refused_by_its_first_difference(tmp_path: Path) -> None:
    begun(tmp_path)
    mine = RECIPE.with_settings(["stages.0.steps=7", "objective.mu=1.5"])
    for inputs, words in [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"recipe": mine}, "recipe.objective.mu was 1.2 and is now 1.5"),
        ({"data": {"train": "ab"}}, "data was None and is now {'train': 'ab'}"),
    ]:
        with pytest.raises(UserError, match=f"holds another run: {words}; give the same settings"):
            open_folder(tmp_path, resume=True, **inputs)
    with pytest.raises(UserError, match="command was 'train' and is now 'distill'"):
        RunFolder(tmp_path, "distill", RECIPE, {"seed": 0}, resume=True)


def test_settings_that_change_nothing_may_change_on_the_way(tmp_path: Path) -> None:
    begun(tmp_path)
    freed = RECIPE.with_settings(
        ["run.device=cpu", "run.log_every=3", "run.checkpoint_every=4", "run.memory=lowest", "run.compile=kernels"]
    )
    open_folder(tmp_path, resume=True, recipe=freed)
    with pytest.raises(UserError, match=r"recipe\.run\.precision was 'fp32' and is now 'bf16'"):
        open_folder(tmp_path, resume=True, recipe=freed.with_settings(["run.precision=bf16"]))


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"recipe": 3}', '{"recipe": {"objective": "sdi"}}'])
def test_a_damaged_description_is_told(text: str, tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json") as caught:
        open_folder(tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_the_log_goes_back_to_a_step_of_a_stage(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    for stage, step in [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]:
        folder.log(kind="distill", stage=stage, step=step)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "distill", "sta')  # a kill cut this one
    again = open_folder(tmp_path, resume=True)
    for to, left in [((2, 1), 4), ((0, 1), 2), ((2, 0), 2), ((1, 0), 1), ((0, 0), 0)]:
        again.rewind(*to)
        assert len(read_log(tmp_path / "log.jsonl")) == left


@pytest.mark.parametrize("strange", ["[1]", '{"a": 1}', '{"step": "x"}'])
def test_lines_that_are_not_of_a_log_are_dropped(strange: str, tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.log(kind="distill", stage=0, step=1)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(strange + "\n")
    open_folder(tmp_path, resume=True).rewind(2, 1)
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1]


def test_lines_are_on_the_disk_at_once(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.log(kind="fit", step=1, loss=0.5)
    assert read_log(tmp_path / "log.jsonl") == [{"kind": "fit", "step": 1, "loss": 0.5}]


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(tmp_path)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"cannot write .*log\.jsonl: No space left on device; free some space"):
        folder.log(kind="fit", step=1)


def test_the_clock_goes_on() -> None:
    assert 100.0 <= Clock(100.0).seconds < 101.0
