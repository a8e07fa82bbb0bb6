"""Decoded texts in the form of DiffuSeq's decoding program, so that either side's evaluation can score the other's.

One file for each seed, ``seed{seed}_step{clamp}.json``, with one JSON object a line:
``{"recover": what was written, "reference": the target, "source": the source}``. The texts are decoded ids: they keep
their ``[CLS]`` and ``[SEP]`` (or whatever the vocabulary calls them), lose the padding at their end, and are cut and
spelt as the tokenizer left them.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.data.pairs import Pair
from dlkit.data.sequences import Overlong, merge_pair, merge_source
from dlkit.data.tokenizer import Tokenizer
from dlkit.errors import UserError
from dlkit.files import write_text
from dlkit.generator import TextModel
from dlkit.samplers._base import Sampler

KEYS = ("recover", "reference", "source")
MARKS = ("[CLS]", "[SEP]", "[PAD]")
_FILE = re.compile(r"seed(\d+)_step(\d+)\.json")


@dataclass(frozen=True)
class Decodes:
    """The texts of one or several seeds, exactly as they stand in the files.

    Attributes:
        sources, references: one for each line.
        hypotheses: for each source what every seed wrote, in the order of ``files``.
        files: where they are from.
    """

    sources: list[str]
    references: list[str]
    hypotheses: list[list[str]]
    files: tuple[Path, ...] = ()


def without_marks(text: str, marks: Iterable[str] = MARKS) -> str:
    """``text`` without its marks; blanks around them stay, as in DiffuSeq's evaluation."""
    for mark in marks:
        text = text.replace(mark, "")
    return text


def read_decodes(places: str | Path | Sequence[str | Path]) -> Decodes:
    """Read a folder's ``*.json``, or the files given; files named ``seed{seed}_step{clamp}.json`` in order of seeds.

    Raises:
        UserError: there are none, a file is missing or malformed, or the files do not tell of the same sources and
            references line by line.
    """
    files = _files([places] if isinstance(places, str | Path) else list(places))
    read = [_lines(file) for file in files]
    first = read[0]
    for file, lines in zip(files[1:], read[1:], strict=True):
        _refuse_other_lines(first, lines, files[0], file)
    return Decodes(
        sources=[line["source"] for line in first],
        references=[line["reference"] for line in first],
        hypotheses=[[line["recover"] for line in lines] for lines in zip(*read, strict=True)],
        files=tuple(files),
    )


def write_decodes(folder: str | Path, decodes: Decodes, seeds: Sequence[int], clamp: int = 0) -> list[Path]:
    """Write one file for each seed, each whole or not at all; files of other seeds stay.

    Args:
        folder: made if it is not there.
        decodes: with one hypothesis of each source for every seed.
        seeds: name the files.
        clamp: the first index at which predictions were rounded, 0 where all were; names the files too.

    Raises:
        UserError: the folder cannot be written.
        ValueError: the number of seeds is not that of the hypotheses.
    """
    if any(len(texts) != len(seeds) for texts in decodes.hypotheses):
        raise ValueError(f"{len(seeds)} seeds, but other numbers of texts")
    written = []
    for number, seed in enumerate(seeds):
        recovered = [texts[number] for texts in decodes.hypotheses]
        rows = zip(recovered, decodes.references, decodes.sources, strict=True)
        lines = [json.dumps(dict(zip(KEYS, row, strict=True))) for row in rows]
        written.append(Path(folder) / f"seed{seed}_step{clamp}.json")
        write_text(written[-1], "".join(f"{line}\n" for line in lines))
    return written


def decode(
    model: TextModel,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    *,
    sampler: str | dict[str, Any] | Sampler | None = None,
    steps: int | None = None,
    batch_size: int = 256,
) -> Decodes:
    """Write a text for every source and seed; seed s gives what ``model.generate(sources, seed=s)`` does.

    Args:
        model: the writer.
        pairs: sources, and references of which the first counts.
        seeds: of the noise.
        sampler, steps, batch_size: see :meth:`dlkit.generator.TextModel.generate_tokens`.

    Raises:
        UserError: as :meth:`dlkit.generator.TextModel.generate_tokens`.
    """
    sources = [pair.src for pair in pairs]
    columns = []
    for seed in seeds:
        tokens = model.generate_tokens(sources, sampler=sampler, steps=steps, seed=seed, batch_size=batch_size)
        columns.append([model.tokenizer.decode_marked(ids) for (ids,) in tokens])
    given = marked_pairs(pairs, model.tokenizer, model.architecture.seq_len, model.architecture.overlong)
    return Decodes(
        sources=[source for source, _ in given],
        references=[reference for _, reference in given],
        hypotheses=[list(row) for row in zip(*columns, strict=True)],
    )


def clamp_of(model: TextModel, sampler: Sampler) -> int:
    """The first index at which predictions are rounded: 0 with rounding; without it the number of indices."""
    every = getattr(sampler, "rounding", False)
    return 0 if every else getattr(model.architecture.process.noise_schedule, "steps", 0)  # type: ignore[attr-defined]


def marked_pairs(
    pairs: Sequence[Pair], tokenizer: Tokenizer, seq_len: int, overlong: Overlong = "truncate"
) -> list[tuple[str, str]]:
    """Source and first reference of each pair as they stand in a decode file: laid out in ``seq_len`` ids and decoded.

    The source is cut as it is for generation, where no target is known.

    Raises:
        UserError: a pair does not fit and ``overlong`` is ``"refuse"``.
    """
    marks: dict[str, Any] = {"sep_id": tokenizer.sep_id, "pad_id": tokenizer.pad_id, "overlong": overlong}
    sources = tokenizer.encode_batch([pair.src for pair in pairs])
    targets = tokenizer.encode_batch([pair.trg for pair in pairs])
    found = []
    for number, (src, trg) in enumerate(zip(sources, targets, strict=True), 1):
        source, _ = _parts(*merge_source(src, seq_len, **marks, where=f"source {number}"))
        _, reference = _parts(*merge_pair(src, trg, seq_len, **marks, where=f"pair {number}"))
        found.append((tokenizer.decode_marked(source), tokenizer.decode_marked(reference)))
    return found


def _parts(ids: list[int], mask: list[int]) -> tuple[list[int], list[int]]:
    """The given ids and the free ones."""
    cut = len(mask) - sum(mask)
    return ids[:cut], ids[cut:]


def _files(places: list[str | Path]) -> list[Path]:
    files: list[Path] = []
    for place in map(Path, places):
        files += sorted(place.glob("*.json"), key=_order) if place.is_dir() else [place]
    if not files:
        raise UserError(
            f"there is no decoded text in {', '.join(map(str, places)) or 'no files'}; give seed*_step*.json"
        )
    return files


def _order(file: Path) -> tuple[int, int, str]:
    """By seed and step as numbers; other names come last."""
    named = _FILE.fullmatch(file.name)
    return (int(named[1]), int(named[2]), "") if named else (1 << 63, 0, file.name)


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text; give the file that the decoding program wrote") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give files that decoding wrote") from None
    lines = [_line(line, f"{file}:{number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{file} is empty; the run that wrote it did not end well")
    return lines


def _line(line: str, where: str) -> dict[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{where}: not valid JSON ({error}); each line must be an object with {', '.join(KEYS)}"
        ) from None
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in KEYS):
        raise UserError(f"{where}: each line must be an object with the texts {', '.join(KEYS)}")
    return record


def _refuse_other_lines(
    first: list[dict[str, str]], other: list[dict[str, str]], first_file: Path, other_file: Path
) -> None:
    if len(first) != len(other):
        raise UserError(
            f"{first_file} has {len(first)} lines, {other_file} {len(other)}; give files of the same sources"
        )
    for number, (a, b) in enumerate(zip(first, other, strict=True), 1):
        for key in ("source", "reference"):
            if a[key] != b[key]:
                raise UserError(
                    f"{other_file}, text {number}: another {key} than in {first_file}; give files of the same sources"
                )
