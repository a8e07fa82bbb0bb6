"""Pairs of a source and its targets, in the files of a data folder."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dlkit.data.splits import find, is_plain, lines, record, refuse_objects, text_of, write_lines
from dlkit.errors import UserError

EXAMPLE = 'each line must look like {"src": "a text", "trg": "a text"}'
HINT = "give pairs, or a model that reads such texts (model.layout=padded or packed)"


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
    path = find(folder, split)
    if is_plain(path):
        refuse_objects(path)
        raise UserError(f"{path}: texts without a source, where pairs are wanted; {HINT}")
    pairs = list(islice((_parse(line, where) for where, line in lines(path)), limit))
    if not pairs:
        raise UserError(f"{path}: the file is empty; {EXAMPLE}")
    return pairs


def write_split(path: str | os.PathLike[str], pairs: Iterable[Pair]) -> None:
    """Write pairs as JSON lines, gzipped if the name ends with ``.gz``.

    Equal pairs give equal bytes, and the file appears whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write_lines(path, _lines(pairs))


def _lines(pairs: Iterable[Pair]) -> Iterator[bytes]:
    for pair in pairs:
        columns: dict[str, Any] = {"src": pair.src, "trg": pair.trg}
        if len(pair.refs) > 1:
            columns["refs"] = list(pair.refs)
        yield json.dumps(columns, ensure_ascii=False).encode() + b"\n"


def _parse(line: str, where: str) -> Pair:
    found = record(line, where, EXAMPLE)
    if "src" not in found:
        reason = f"this is a text without a source; {HINT}" if "text" in found else EXAMPLE
        raise UserError(f"{where}: the key 'src' is missing; {reason}")
    if "trg" not in found and "refs" not in found:
        raise UserError(f"{where}: the key 'trg' is missing; {EXAMPLE}")
    refs = [*_texts(found, "trg", where), *_texts(found, "refs", where)]
    return Pair(text_of(found["src"], "src", where), tuple(dict.fromkeys(refs)))


def _texts(found: dict[str, Any], key: str, where: str) -> list[str]:
    value = found.get(key, [])
    if key == "trg" and isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        form = "a text or a list of texts" if key == "trg" else "a list of texts"
        raise UserError(f"{where}: '{key}' must be {form}, not {type(value).__name__}")
    if key in found and not value:
        raise UserError(f"{where}: '{key}' is an empty list; give at least one text or remove the line")
    return [text_of(text, key, where) for text in value]
