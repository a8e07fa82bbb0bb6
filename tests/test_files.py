"""Files and folders are whole or not there."""

import os
from pathlib import Path

import pytest

from dlkit import files
from dlkit.errors import UserError
from dlkit.files import atomic_file, atomic_folder, read_json, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    write_text(path, "ä second time")
    assert path.read_text(encoding="utf-8") == "ä second time"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_file_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def make_folder(path: Path, **content: str) -> None:
    path.mkdir()
    for name, text in content.items():
        (path / name).write_text(text)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_folder(path, a="old", b="old")
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("new")
        (temporary / "below").mkdir()
        (temporary / "below" / "c").write_text("new")
        assert (path / "a").read_text() == "old"
    assert names(path) == ["a", "below"]
    assert (path / "a").read_text() == (path / "below" / "c").read_text() == "new"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "model"
    make_folder(path, a="old")
    with pytest.raises(error), atomic_folder(path) as temporary:
        (temporary / "a").write_text("new")
        raise error
    assert (path / "a").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_failing_move_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    make_folder(path, a="old")
    replace = os.replace

    def fails_on_the_new_one(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fails_on_the_new_one)
    with pytest.raises(UserError, match="No space left on device"), atomic_folder(path) as temporary:
        (temporary / "a").write_text("new")
    assert (path / "a").read_text() == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, atomic) -> None:
    with pytest.raises(UserError) as caught, atomic(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"cannot write {tmp_path / 'x'}: No space left on device; free some space or choose another folder"
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_a_place_below_a_file(tmp_path: Path, atomic) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), atomic(tmp_path / "file" / "x"):
        pytest.fail("the block must not run")


def test_json(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "ü": "é"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="cannot read"):
        read_json(tmp_path)
    for damage in (b'{"a": ', b"\xff\xfe\x00"):
        (tmp_path / "a.json").write_bytes(damage)
        with pytest.raises(UserError, match=r"a\.json is damaged") as caught:
            read_json(tmp_path / "a.json")
        assert "\n" not in str(caught.value)
