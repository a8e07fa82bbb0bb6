"""The files of a data folder: which one holds a split, and its lines."""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dlkit.errors import UserError
from dlkit.files import atomic_file

ENDINGS = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz")
KEYS = frozenset({"text", "src", "trg"})  # one of them is in every object of a data folder
LOOKED_AT = 5  # lines of a file of plain texts


def has_split(folder: str | os.PathLike[str], split: str) -> bool:
    """Whether the folder holds a file of the split, in any form."""
    return any(path.is_file() for path in _candidates(folder, split))


def fingerprint(folder: str | os.PathLike[str], split: str) -> str:
    """SHA-256 (hex) of the split's file as it is stored. Raises ``UserError`` as :func:`find` does."""
    with find(folder, split).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(folder: str | os.PathLike[str], split: str) -> Path:
    """The file of a split. Raises ``UserError`` if there is none, or more than one."""
    if not split or Path(split).name != split:
        raise UserError(f"there is no split {split!r}; give the name of a file of the data folder, such as test")
    wanted = f"{split}.jsonl or {split}.jsonl.gz (texts without a source: also {split}.txt or {split}.txt.gz)"
    if Path(folder).is_file():
        raise UserError(f"{folder}: a file; give the data folder that holds {wanted}")
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such data folder; give a folder that holds {wanted}")
    found = [path for path in _candidates(folder, split) if path.is_file()]
    if not found:
        raise UserError(f"{folder}: no {split} data; this needs {wanted} in that folder")
    if len(found) > 1:
        raise UserError(f"{folder}: holds both {found[0].name} and {found[1].name}; remove one of them")
    return found[0]


def is_plain(path: Path) -> bool:
    """Whether a file has a text on each line, and no objects."""
    return path.name.endswith((".txt", ".txt.gz"))


def refuse_objects(path: Path) -> None:
    """Raise ``UserError`` if a file of plain texts begins with lines that are the objects of a ``.jsonl`` file."""
    first = [line for _, line in islice(lines(path), LOOKED_AT)]
    if first and all(_is_example(line) for line in first):
        raise UserError(
            f"{path}: its lines are JSON objects, not texts; rename it to {path.name.replace('.txt', '.jsonl')}"
        )


def _is_example(line: str) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not KEYS.isdisjoint(found)


def _candidates(folder: str | os.PathLike[str], split: str) -> list[Path]:
    return [Path(folder) / f"{split}{ending}" for ending in ENDINGS]


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that hold more than blanks, each with where it stands.

    Raises:
        UserError: the file is damaged or not UTF-8.
    """
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", _decoded(line, f"{path}:{number}")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: not a whole gzip file ({error}); fetch or pack it again") from error


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from error


def record(line: str, where: str, example: str) -> dict[str, Any]:
    """The object on a line. Raises ``UserError``, with the example, if it holds none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise UserError(f"{where}: not valid JSON ({error}); {example}") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: a {type(found).__name__} instead of an object; {example}")
    return found


def text_of(value: Any, key: str, where: str) -> str:
    """The text under a key. Raises ``UserError`` if it is none, or blank."""
    if not isinstance(value, str):
        raise UserError(f"{where}: '{key}' must be text, not {type(value).__name__}; put it in double quotes")
    if not value.strip():
        raise UserError(f"{where}: '{key}' is blank; fill it in or remove the line")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise UserError(f"{where}: '{key}' holds half a surrogate pair, which is no character; mend its \\u escapes")
    return value


def write_lines(path: str | os.PathLike[str], lines: Iterable[bytes]) -> None:
    """Write lines, gzipped if the name ends with ``.gz``.

    Equal lines give equal bytes, and the file appears whole or not at all. Raises ``UserError`` where it cannot be
    written.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as raw:
        if str(path).endswith(".gz"):
            # no name and no time in the header: they would make equal contents differ
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                packed.writelines(lines)
        else:
            raw.writelines(lines)
