"""Data folders: what is read, what is refused and how it is said."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlkit.data.pairs import Pair, read_split, write_split
from dlkit.data.splits import fingerprint, has_split
from dlkit.errors import UserError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
GOOD = {"src": "a b", "trg": "c d"}


def write(folder: Path, *lines: object, name: str = "train.jsonl") -> Path:
    """A data folder with one file; lines that are not bytes are dumped as JSON."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / name).write_bytes(b"\n".join(raw))
    return folder


def refusal(folder: Path, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        read_split(folder, split)
    message = str(caught.value)
    assert "\n" not in message
    return message


@given(st.lists(st.builds(Pair, TEXTS, st.lists(TEXTS, min_size=1, unique=True).map(tuple)), min_size=1))
@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, name: str, pairs: list[Pair]) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    write_split(folder / name, pairs)
    assert read_split(folder, "train") == pairs
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    write(tmp_path, GOOD, GOOD, b"{ damaged")
    assert len(read_split(tmp_path, "train", 2)) == 2
    assert "train.jsonl:3: not valid JSON" in refusal(tmp_path)


@pytest.mark.parametrize("split", ["", "../train", "a/train"])
def test_a_split_is_a_name(tmp_path: Path, split: str) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", GOOD)
    assert f"there is no split {split!r}" in refusal(tmp_path / "a", split)


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert "train.jsonl: a file; give the data folder that holds" in refusal(tmp_path / "train.jsonl")


@pytest.mark.parametrize(
    ("record", "refs"),
    [
        ({"src": "s", "trg": "t"}, ("t",)),
        ({"src": "s", "trg": ["t", "u"]}, ("t", "u")),
        ({"src": "s", "trg": "t", "refs": ["t", "u"]}, ("t", "u")),
        ({"src": "s", "trg": "t", "refs": ["u", "v"]}, ("t", "u", "v")),
        ({"src": "s", "refs": ["u", "v"]}, ("u", "v")),
        ({"src": "s", "trg": "t", "id": 7, "note": None}, ("t",)),
    ],
)
def test_forms_of_a_line(tmp_path: Path, record: dict[str, object], refs: tuple[str, ...]) -> None:
    (pair,) = read_split(write(tmp_path, record), "train")
    assert pair == Pair("s", refs)
    assert pair.trg == refs[0]


def test_blank_lines_windows_lines_and_a_byte_order_mark_are_harmless(tmp_path: Path) -> None:
    write(tmp_path, b'\xef\xbb\xbf{"src": "a", "trg": "b"}\r', b"", b'{"src": "c", "trg": "d"}\r', b"  ")
    assert [pair.src for pair in read_split(tmp_path, "train")] == ["a", "c"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"src": "a", "trg"', "not valid JSON"),
        (b'{"src": ' + b"1" * 5000 + b', "trg": "b"}', "not valid JSON"),
        (b'{"src": "caf\xe9", "trg": "b"}', "not UTF-8"),
        (["a", "b"], "list instead of an object"),
        ({"trg": "b"}, "'src' is missing"),
        ({"src": "a"}, "'trg' is missing"),
        ({"src": 3, "trg": "b"}, "'src' must be text, not int"),
        ({"src": "a", "trg": 3}, "'trg' must be a text or a list of texts, not int"),
        ({"src": "a", "trg": ["b", 3]}, "'trg' must be text, not int"),
        ({"src": "a", "trg": None}, "'trg' must be a text or a list of texts, not NoneType"),
        ({"src": "a", "trg": "b", "refs": "c"}, "'refs' must be a list of texts, not str"),
        ({"src": "a", "trg": []}, "'trg' is an empty list"),
        ({"src": "a", "trg": "b", "refs": []}, "'refs' is an empty list"),
        ({"src": " \t", "trg": "b"}, "'src' is blank"),
        ({"src": "a", "trg": ""}, "'trg' is blank"),
        ({"src": "a", "trg": "b", "refs": ["b", " "]}, "'refs' is blank"),
        ({"src": "\ud800", "trg": "b"}, "half a surrogate pair"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, reason: str) -> None:
    assert len(read_split(write(tmp_path, GOOD, GOOD), "train")) == 2
    message = refusal(write(tmp_path, GOOD, line))
    assert message.startswith(f"{tmp_path / 'train.jsonl'}:2: ")
    assert reason in message


def test_missing_folder_and_file(tmp_path: Path) -> None:
    assert "no such data folder" in refusal(tmp_path / "absent")
    message = refusal(write(tmp_path, GOOD), "valid")
    assert "valid.jsonl or valid.jsonl.gz" in message
    assert has_split(tmp_path, "train")
    assert not has_split(tmp_path, "valid")


def test_both_forms_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path / "train.jsonl", [Pair("a", ("b",))])
    write_split(tmp_path / "train.jsonl.gz", [Pair("a", ("b",))])
    assert "both train.jsonl and train.jsonl.gz" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "the file is empty" in refusal(write(tmp_path, content))
    assert "the file is empty" in refusal(write(tmp_path, gzip.compress(content), name="test.jsonl.gz"), "test")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(GOOD).encode() * 100)
    flipped = packed[:12] + bytes([packed[12] ^ 255]) + packed[13:]
    for damaged in (packed[:-12], b"plain text", flipped):
        message = refusal(write(tmp_path, damaged, name="train.jsonl.gz"))
        assert "not a whole gzip file" in message


def test_equal_pairs_give_equal_bytes(tmp_path: Path) -> None:
    pairs = [Pair("a", ("b", "c"))]
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_split(folder / "train.jsonl.gz", pairs)
    assert fingerprint(tmp_path / "one", "train") == fingerprint(tmp_path / "two", "train")
    write_split(tmp_path / "two" / "train.jsonl.gz", [Pair("a", ("c", "b"))])
    assert fingerprint(tmp_path / "one", "train") != fingerprint(tmp_path / "two", "train")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_split(tmp_path / "train.jsonl", [Pair("a", ("b",))])

    def broken():
        yield Pair("c", ("d",))
        raise RuntimeError("the source ran dry")

    with pytest.raises(RuntimeError):
        write_split(tmp_path / "train.jsonl", broken())
    assert read_split(tmp_path, "train") == [Pair("a", ("b",))]
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]
