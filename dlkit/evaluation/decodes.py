"""Files of generated texts: DiffuSeq's decode files, and the lines that ``dlkit sample`` writes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.errors import UserError
from dlkit.metrics._diffuseq import strip_marks

KEYS = ("recover", "reference", "source")
EXAMPLE = 'each line must look like {"recover": "a text", "reference": "a text", "source": "a text"}'
SAMPLE = 'each line must look like {"source": "a text", "hypotheses": ["a text", ...]}, as dlkit sample writes it'


@dataclass(frozen=True)
class Decodes:
    """Texts that were written earlier.

    Attributes:
        files: that they were read from; of decode files the k-th holds the k-th sample of every source.
        sources: N texts.
        hypotheses: S samples of each source.
        references: of each source; none where the files hold none.
    """

    files: Sequence[Path]
    sources: Sequence[str]
    hypotheses: Sequence[Sequence[str]]
    references: Sequence[Sequence[str]]

    def first(self, limit: int | None) -> "Decodes":
        """The first ``limit`` sources; all of them if ``limit`` is None."""
        return Decodes(self.files, self.sources[:limit], self.hypotheses[:limit], self.references[:limit])


def read_decodes(path: str | Path) -> Decodes:
    """Read decode files: a folder with one JSON file for each seed, or a single file.

    A line is ``{"recover": hypothesis, "reference": ..., "source": ...}``; the marks that the texts keep are removed
    (:func:`dlkit.metrics._diffuseq.strip_marks`). Files count in the order of their names, compared as strings: it
    decides ties of minimum Bayes risk, and which sample is the hypothesis of a pair in self-BLEU.

    Raises:
        UserError: nothing is there, a line is not of this form, or the files do not hold the same sources and
            references line by line.

    Source: DiffuSeq (Gong et al. 2023, arXiv 2210.08933), output of the authors' decoding program.
    """
    files = _files(Path(path))
    columns = [_column(file) for file in files]
    for file, column in zip(files[1:], columns[1:], strict=True):
        _check_alignment(files[0], columns[0], file, column)
    hypotheses = [list(row) for row in zip(*([recover for recover, _, _ in column] for column in columns), strict=True)]
    return Decodes(files, [src for _, _, src in columns[0]], hypotheses, [(ref,) for _, ref, _ in columns[0]])


def read_samples(path: str | Path) -> Decodes:
    """Read what ``dlkit sample`` wrote: a source with its hypotheses on each line, without references.

    Raises:
        UserError: the file is missing or empty, or a line is not of this form.
    """
    path = Path(path)
    records = _records(path, SAMPLE)
    for number, record in enumerate(records, 1):
        source, hypotheses = record.get("source"), record.get("hypotheses")
        texts = hypotheses if isinstance(hypotheses, list) else [None]
        if not texts or not all(isinstance(text, str) for text in [source, *texts]):
            raise UserError(f"{path}:{number}: no text 'source' with a list of texts 'hypotheses'; {SAMPLE}")
    sources, hypotheses = ([record[key] for record in records] for key in ("source", "hypotheses"))
    return Decodes([path], sources, hypotheses, [()] * len(sources))


def holds_samples(path: str | Path) -> bool:
    """Whether a file is one of :func:`read_samples`: told by its first line. Raises ``UserError`` as that does."""
    return Path(path).is_file() and "hypotheses" in _records(Path(path), f"{EXAMPLE}, or {SAMPLE}", 1)[0]


def average_length(texts: Sequence[str]) -> float:
    """Mean number of words as DiffuSeq counts them: split at every single blank, so that two blanks enclose a word."""
    return sum(len(text.split(" ")) for text in texts) / len(texts)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give decode files, or the folder that holds them")
    found = sorted(path.glob("*.json"), key=lambda file: file.name)
    if not found:
        raise UserError(f"{path}: no .json file in that folder; give one with a decode file for each seed")
    return found


def _column(file: Path) -> list[tuple[str, str, str]]:
    rows = []
    for number, record in enumerate(_records(file, EXAMPLE), 1):
        wrong = [key for key in KEYS if not isinstance(record.get(key), str)]
        if wrong:
            raise UserError(f"{file}:{number}: no text under the key {wrong[0]!r}; {EXAMPLE}")
        rows.append(tuple(strip_marks(record[key], hypothesis=key == "recover") for key in KEYS))
    return rows


def _check_alignment(first: Path, ours: list[tuple[str, str, str]], file: Path, theirs: list[tuple[str, str, str]]):
    hint = "keep files of one data set only in the folder"
    if len(ours) != len(theirs):
        raise UserError(f"{first} has {len(ours)} lines and {file} has {len(theirs)}; {hint}")
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
        if one[1:] != other[1:]:
            what = "reference" if one[2] == other[2] else "source"
            raise UserError(f"{file}:{number}: another {what} than in {first}; {hint}")


def _records(path: Path, example: str, limit: int | None = None) -> list[dict[str, Any]]:
    """The objects of a file, one a line; lines of blanks at its end are ignored."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")[:limit]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; {example}") from None
    if lines == [""]:
        raise UserError(f"{path}: the file is empty; {example}")
    return [_record(line, f"{path}:{number}", example) for number, line in enumerate(lines, 1)]


def _record(line: str, where: str, example: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}); {example}") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: a {type(record).__name__} instead of an object; {example}")
    return record
