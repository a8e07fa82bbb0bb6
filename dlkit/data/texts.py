"""Texts without a source, in the files of a data folder."""

import json
import os
from collections.abc import Iterable
from itertools import islice

from dlkit.data.splits import find, is_plain, lines, record, refuse_objects, text_of, write_lines
from dlkit.errors import UserError

EXAMPLE = 'each line must look like {"text": "a text"}'
HINT = "give texts, or a model that reads pairs (model.layout=pairs)"


def read_texts(folder: str | os.PathLike[str], split: str, limit: int | None = None) -> list[str]:
    """Read ``{split}.jsonl``, with ``{"text": ...}`` on each line, or ``{split}.txt``, with a text on each.

    Either may be gzipped (``.gz``). Lines of blanks are ignored, and so are other keys of an object.

    Args:
        limit: no more than the first texts.

    Raises:
        UserError: the folder or file is missing, several forms are there, the file is empty, damaged or not UTF-8,
            holds pairs, has a line that is no such object or whose text is blank, or objects where texts are plain.
    """
    path = find(folder, split)
    if is_plain(path):
        refuse_objects(path)
        found = (line.rstrip("\r\n") for _, line in lines(path) if line.strip())
    else:
        found = (_parse(line, where) for where, line in lines(path))
    texts = list(islice(found, limit))
    if not texts:
        raise UserError(f"{path}: the file is empty; {'give a text a line' if is_plain(path) else EXAMPLE}")
    return texts


def write_texts(path: str | os.PathLike[str], texts: Iterable[str]) -> None:
    """Write texts as JSON lines, gzipped if the name ends with ``.gz``; equal texts give equal bytes.

    Raises:
        UserError: the file cannot be written.
    """
    write_lines(path, (json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts))


def _parse(line: str, where: str) -> str:
    found = record(line, where, EXAMPLE)
    if "text" not in found:
        pair = "src" in found or "trg" in found
        raise UserError(f"{where}: the key 'text' is missing; {f'this is a pair; {HINT}' if pair else EXAMPLE}")
    return text_of(found["text"], "text", where)
