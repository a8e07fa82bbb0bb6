"""Data folders: ``train``, ``valid`` and ``test`` as JSON lines, plain or gzipped."""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dlkit.errors import UserError
from dlkit.files import atomic_file

EXAMPLE = 'each line must look like {"src": "a text", "trg": "a text"}'


@dataclass(frozen=True)
class Pair:
    """A source text and its accepted target texts, the main one first."""

    src: str
    refs: tuple[str, ...]

    @property
    def trg(self) -> str:
        """The main target: the first reference."""
        return self.refs[0]


def read_split(folder: str | os.PathLike[str], split: str, limit: int | None = None) -> list[Pair]:
    """Read ``{split}.jsonl`` or ``{split}.jsonl.gz`` of a data folder; with a limit, no more than its first pairs.

    Each line is an object with ``src`` (a text) and ``trg`` (a text or a list of texts), ``refs`` (a list of texts) or
    both; the references are those of ``trg``, then those of ``refs`` not yet seen. Other keys are ignored, because data
    sets often carry columns of their own; so are lines of blanks only.

    Raises:
        UserError: the folder or file is missing, both forms are there, the file is empty, damaged or not UTF-8, or a
            line is not such an object or has a blank text.
    """
    path = _find(folder, split)
    pairs = list(islice(_parse_lines(path), limit))
    if not pairs:
        raise UserError(f"{path}: the file is empty; {EXAMPLE}")
    return pairs


def has_split(folder: str | os.PathLike[str], split: str) -> bool:
    """Whether the folder holds a file of the split, in either form."""
    return any(path.is_file() for path in _candidates(folder, split))


def fingerprint(folder: str | os.PathLike[str], split: str) -> str:
    """SHA-256 (hex) of the split's file as it is stored. Raises ``UserError`` if there is no such file."""
    with _find(folder, split).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_split(path: str | os.PathLike[str], pairs: Iterable[Pair]) -> None:
    """Write pairs as JSON lines, gzipped if the name ends with ``.gz``.

    Equal pairs give equal bytes, and the file appears whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as raw:
        if str(path).endswith(".gz"):
            # no name and no time in the header: they would make equal contents differ
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                packed.writelines(_lines(pairs))
        else:
            raw.writelines(_lines(pairs))


def _lines(pairs: Iterable[Pair]) -> Iterator[bytes]:
    for pair in pairs:
        record: dict[str, Any] = {"src": pair.src, "trg": pair.trg}
        if len(pair.refs) > 1:
            record["refs"] = list(pair.refs)
        yield json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _candidates(folder: str | os.PathLike[str], split: str) -> list[Path]:
    return [Path(folder) / f"{split}.jsonl", Path(folder) / f"{split}.jsonl.gz"]


def _find(folder: str | os.PathLike[str], split: str) -> Path:
    if not split or Path(split).name != split:
        raise UserError(f"there is no split {split!r}; give the name of a file of the data folder, such as test")
    if Path(folder).is_file():
        raise UserError(f"{folder}: a file; give the data folder that holds {split}.jsonl or {split}.jsonl.gz")
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such data folder; give a folder that holds {split}.jsonl or {split}.jsonl.gz")
    found = [path for path in _candidates(folder, split) if path.is_file()]
    if not found:
        raise UserError(f"{folder}: no {split} data; this needs {split}.jsonl or {split}.jsonl.gz in that folder")
    if len(found) > 1:
        raise UserError(f"{folder}: holds both {found[0].name} and {found[1].name}; remove one of them")
    return found[0]


def _parse_lines(path: Path) -> Iterator[Pair]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: not a whole gzip file ({error}); fetch or pack it again") from error


def _parse(line: bytes, where: str) -> Pair:
    record = _record(line, where)
    if "src" not in record:
        raise UserError(f"{where}: the key 'src' is missing; {EXAMPLE}")
    if "trg" not in record and "refs" not in record:
        raise UserError(f"{where}: the key 'trg' is missing; {EXAMPLE}")
    refs = [*_texts(record, "trg", where), *_texts(record, "refs", where)]
    return Pair(_text(record["src"], "src", where), tuple(dict.fromkeys(refs)))


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise UserError(f"{where}: not valid JSON ({error}); {EXAMPLE}") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: a {type(record).__name__} instead of an object; {EXAMPLE}")
    return record


def _texts(record: dict[str, Any], key: str, where: str) -> list[str]:
    value = record.get(key, [])
    if key == "trg" and isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        form = "a text or a list of texts" if key == "trg" else "a list of texts"
        raise UserError(f"{where}: '{key}' must be {form}, not {type(value).__name__}")
    if key in record and not value:
        raise UserError(f"{where}: '{key}' is an empty list; give at least one text or remove the line")
    return [_text(text, key, where) for text in value]


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: '{key}' must be text, not {type(value).__name__}; put it in double quotes")
    if not value.strip():
        raise UserError(f"{where}: '{key}' is blank; fill it in or remove the line")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise UserError(f"{where}: '{key}' holds half a surrogate pair, which is no character; mend its \\u escapes")
    return value
