"""Decode files and sample files: what is read, what is refused, and that scores are those of the texts."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlkit.errors import UserError
from dlkit.evaluation.decodes import average_length, holds_samples, read_decodes, read_samples

LINE = {"recover": "[CLS] a b [SEP] [PAD]", "reference": "[CLS] a c [SEP]", "source": "[CLS] d [SEP] [SEP]"}


def write(file: Path, *lines: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    file.write_bytes(b"\n".join([*raw, b""]))
    return file


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        (read_samples if path.is_file() and holds_samples(path) else read_decodes)(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_marks_are_removed_and_nothing_else(tmp_path: Path) -> None:
    decodes = read_decodes(write(tmp_path / "seed1.json", LINE, {**LINE, "reference": "x [PAD] [UNK]"}))
    assert decodes.hypotheses == [[" a b  "]] * 2
    assert decodes.references == [(" a c ",), ("x [PAD] [UNK]",)] and decodes.sources == [" d  "] * 2
    assert decodes.first(1).sources == [" d  "] and len(decodes.first(None).sources) == 2


def test_files_are_samples_in_the_order_of_their_names(tmp_path: Path) -> None:
    for seed in (9, 10, 2):
        write(tmp_path / f"seed{seed}.json", {**LINE, "recover": str(seed)})
    write(tmp_path / "notes.txt", b"not one of them")
    assert read_decodes(tmp_path).hypotheses == [["10", "2", "9"]]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1))
def test_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = tmp_path_factory.mktemp("decodes") / "seed1.json"
    lines = [json.dumps({"recover": text, "reference": text, "source": text}, ensure_ascii=False) for text in texts]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert read_decodes(file).hypotheses == [[text.strip()] for text in texts]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([b""], "the file is empty"),
        ([b"\xff"], "not UTF-8"),
        ([LINE, b"{"], "seed1.json:2: not valid JSON"),
        ([LINE, b"", LINE], "seed1.json:2: not valid JSON"),
        ([[1]], "seed1.json:1: a list instead of an object"),
        ([{"recover": "a", "source": "b"}], "no text under the key 'reference'"),
        ([{**LINE, "recover": 3}], "no text under the key 'recover'"),
        ([{"source": "a", "hypotheses": []}], "seed1.json:1: no text 'source' with a list of texts"),
        ([{"source": "a", "hypotheses": "b"}], "no text 'source' with a list of texts"),
        ([{"source": "a", "hypotheses": ["b"]}, {"source": "a"}], "seed1.json:2: no text 'source'"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, lines: list[object], words: str) -> None:
    assert words in refusal(write(tmp_path / "seed1.json", *lines))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ([LINE], "seed1.json has 2 lines and"),
        ([LINE, {**LINE, "source": "e"}], "seed2.json:2: another source than in"),
        ([LINE, {**LINE, "reference": "e"}], "seed2.json:2: another reference than in"),
    ],
)
def test_misaligned_files_are_refused(tmp_path: Path, second: list[object], words: str) -> None:
    write(tmp_path / "seed1.json", LINE, LINE)
    write(tmp_path / "seed2.json", *second)
    assert words in refusal(tmp_path)


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "gone")
    assert "no .json file in that folder" in refusal(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_samples(tmp_path / "gone")


def test_sample_files_are_told_by_their_first_line(tmp_path: Path) -> None:
    file = write(tmp_path / "samples.jsonl", {"source": "s", "hypotheses": ["a [SEP]", "b"]})
    assert holds_samples(file) and not holds_samples(tmp_path)
    assert read_samples(file).hypotheses == [["a [SEP]", "b"]], "these texts have no marks to remove"
    assert not holds_samples(write(tmp_path / "seed1.json", LINE))


def test_average_length_counts_what_lies_between_blanks() -> None:
    assert average_length(["a b", " a ", ""]) == (2 + 3 + 1) / 3
