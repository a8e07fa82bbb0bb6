"""Texts without a source: what is read, what is refused and how it is said."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlkit.data.pairs import Pair, read_split, write_split
from dlkit.data.splits import fingerprint, has_split
from dlkit.data.texts import read_texts, write_texts
from dlkit.errors import UserError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def write(folder: Path, content: bytes, name: str = "train.jsonl") -> Path:
    (folder / name).write_bytes(content)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_texts(folder, "train")
    message = str(caught.value)
    assert "\n" not in message
    return message


@given(st.lists(TEXTS, min_size=1))
@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, name: str, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder / name, texts)
    assert read_texts(folder, "train") == texts
    first = fingerprint(folder, "train")
    write_texts(folder / name, texts)
    assert fingerprint(folder, "train") == first


@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
def test_plain_lines(tmp_path: Path, name: str) -> None:
    content = "\ufeffIs it wet ?\r\n\n \t\n  two  blanks \n{not: json}\nünï".encode()
    write(tmp_path, gzip.compress(content) if name.endswith(".gz") else content, name)
    assert read_texts(tmp_path, "train") == ["Is it wet ?", "  two  blanks ", "{not: json}", "ünï"]
    assert read_texts(tmp_path, "train", 2) == ["Is it wet ?", "  two  blanks "]
    assert has_split(tmp_path, "train")


def test_other_keys_are_ignored(tmp_path: Path) -> None:
    assert read_texts(write(tmp_path, b'{"id": 3, "text": "a"}\n\n{"text": "b", "src": "c"}'), "train") == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"text": " "}, "'text' is blank"),
        ({"text": ["a"]}, "'text' must be text, not list"),
        ({"text": "\udc00"}, "half a surrogate pair"),
        ({"content": "a"}, 'the key \'text\' is missing; each line must look like {"text": "a text"}'),
        ({"src": "a", "trg": "b"}, "this is a pair; give texts, or a model that reads pairs (model.layout=pairs)"),
        (["a"], "a list instead of an object"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, reason: str) -> None:
    write(tmp_path, b'{"text": "good"}\n' + json.dumps(line).encode())
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'train.jsonl'}:2: ")
    assert reason in message


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    assert "no train data; this needs train.jsonl or train.jsonl.gz (texts without a source: also" in refusal(tmp_path)
    assert "the file is empty; give a text a line" in refusal(write(tmp_path, b"\n  \n", "train.txt"))
    assert "train.txt:1: not UTF-8 (byte 4 of the line)" in refusal(write(tmp_path, b"caf\xe9\n", "train.txt"))
    write_texts(tmp_path / "train.jsonl", ["a"])
    assert "holds both train.jsonl and train.txt; remove one of them" in refusal(tmp_path)
    (tmp_path / "train.txt").unlink()
    assert "the file is empty; each line must look like" in refusal(write(tmp_path, b""))
    (tmp_path / "train.jsonl").unlink()
    damaged = gzip.compress(b"a text\n" * 100)[:-9]
    assert "not a whole gzip file" in refusal(write(tmp_path, damaged, "train.txt.gz"))


@pytest.mark.parametrize("line", [b'{"text": "a", "id": 3}', b'{"src": "a", "trg": "b"}'])
@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
def test_objects_in_a_file_of_plain_texts(tmp_path: Path, name: str, line: bytes) -> None:
    """All of the first lines, however few; one that is a text makes the file one of texts."""

    def given(content: bytes) -> None:
        write(tmp_path, gzip.compress(content) if name.endswith(".gz") else content, name)

    given(b"\n" + line)
    hint = f"its lines are JSON objects, not texts; rename it to {name.replace('.txt', '.jsonl')}"
    assert hint in refusal(tmp_path)
    with pytest.raises(UserError, match=hint):
        read_split(tmp_path, "train")
    for other in (b"a text", b'{"no": "text"}', b'["text"]', b"{" * 100_000):
        given(b"\n".join([line, other]))
        assert read_texts(tmp_path, "train") == [line.decode(), other.decode()]


def test_texts_where_pairs_are_wanted(tmp_path: Path) -> None:
    write_texts(tmp_path / "train.jsonl", ["a"])
    hint = r"give pairs, or a model that reads such texts \(model.layout=padded or packed\)"
    with pytest.raises(UserError, match=f"this is a text without a source; {hint}"):
        read_split(tmp_path, "train")
    write(tmp_path, b"a\n", "valid.txt")
    with pytest.raises(UserError, match=f"texts without a source, where pairs are wanted; {hint}"):
        read_split(tmp_path, "valid")
    write_split(tmp_path / "test.jsonl", [Pair("a", ("b",))])
    with pytest.raises(UserError, match="this is a pair"):
        read_texts(tmp_path, "test")
