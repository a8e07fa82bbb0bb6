"""Decoded texts in the form of DiffuSeq's decoding program, so that its evaluation can score them.

One file for each seed, ``seed{seed}_step{clamp}.json``, with one JSON object a line:
``{"recover": what was written, "reference": the target, "source": the source}``. The texts are decoded ids: they keep
their ``[CLS]`` and ``[SEP]`` (or whatever the vocabulary calls them), lose the padding at their end, and are cut and
spelt as the tokenizer left them. :mod:`dlkit.evaluation.decodes` reads such files.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.data.pairs import Pair
from dlkit.data.sequences import Overlong, merge_pair
from dlkit.data.tokenizer import Tokenizer
from dlkit.decoders._base import Decoder
from dlkit.evaluation.decodes import KEYS
from dlkit.files import write_text
from dlkit.generator import TextModel
from dlkit.samplers._base import Sampler


@dataclass(frozen=True)
class Decoded:
    """The texts of one or several seeds, exactly as they stand in the files.

    Attributes:
        sources, references: one for each line.
        hypotheses: for each source what every seed wrote.
    """

    sources: list[str]
    references: list[str]
    hypotheses: list[list[str]]


def write_decodes(folder: str | Path, decoded: Decoded, seeds: Sequence[int], clamp: int = 0) -> list[Path]:
    """Write one file for each seed, each whole or not at all; files of other seeds stay.

    Args:
        folder: made if it is not there.
        decoded: with one hypothesis of each source for every seed.
        seeds: name the files.
        clamp: the first index at which predictions were rounded, 0 where all were; names the files too.

    Raises:
        UserError: the folder cannot be written.
        ValueError: the number of seeds is not that of the hypotheses.
    """
    if any(len(texts) != len(seeds) for texts in decoded.hypotheses):
        raise ValueError(f"{len(seeds)} seeds, but other numbers of texts")
    written = []
    for number, seed in enumerate(seeds):
        recovered = [texts[number] for texts in decoded.hypotheses]
        rows = zip(recovered, decoded.references, decoded.sources, strict=True)
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
    decoder: str | dict[str, Any] | Decoder | None = None,
    batch_size: int | None = None,
    guidance: float = 1.0,
) -> Decoded:
    """Write a text for every source and seed; seed s gives what ``model.generate(sources, seed=s)`` does.

    Args:
        model: the writer.
        pairs: sources, and references of which the first counts.
        seeds: of the noise.
        sampler, steps, decoder, batch_size, guidance: see :meth:`dlkit.generator.TextModel.generate_tokens`.

    Seeds know nothing of each other: a student of few codes may begin two of them with the same one, which the samples
    of one call of :meth:`dlkit.generator.TextModel.generate` do not.

    Raises:
        UserError: as :meth:`dlkit.generator.TextModel.generate_tokens`.
    """
    sources = [pair.src for pair in pairs]
    options: dict[str, Any] = {"sampler": sampler, "steps": steps, "decoder": decoder, "batch_size": batch_size}
    options["guidance"] = guidance
    columns = []
    for seed in seeds:
        tokens = model.generate_tokens(sources, seed=seed, **options)
        columns.append(model.tokenizer.decode_marked_batch(ids for (ids,) in tokens))
    given = marked_pairs(pairs, model.tokenizer, model.architecture.seq_len, model.architecture.overlong)
    return Decoded(
        sources=[source for source, _ in given],
        references=[reference for _, reference in given],
        hypotheses=[list(row) for row in zip(*columns, strict=True)],
    )


def clamp_of(model: TextModel, sampler: Sampler) -> int:
    """The lowest index at which predictions are rounded: 0 where all are; without rounding the number of indices."""
    indices = getattr(model.architecture.process.noise_schedule, "steps", 0)  # type: ignore[attr-defined]
    if not getattr(sampler, "rounding", False):
        return indices
    lowest, _ = getattr(sampler, "rounding_times", (0.0, 1.0))
    return max(0, math.ceil(lowest * indices - 1))


def marked_pairs(
    pairs: Sequence[Pair], tokenizer: Tokenizer, seq_len: int, overlong: Overlong = "truncate"
) -> list[tuple[str, str]]:
    """Source and first reference of each pair as they stand in a decode file: laid out in ``seq_len`` ids and decoded.

    A pair that is too long is cut as in training, longer side first, because the original's program does so. Generation
    knows no target, and sees as much of the source as fits.

    Raises:
        UserError: a pair does not fit and ``overlong`` is ``"refuse"``.
    """
    marks: dict[str, Any] = {"sep_id": tokenizer.sep_id, "pad_id": tokenizer.pad_id, "overlong": overlong}
    sources = tokenizer.encode_batch([pair.src for pair in pairs])
    targets = tokenizer.encode_batch([pair.trg for pair in pairs])
    parts = [
        _parts(*merge_pair(src, trg, seq_len, **marks, where=f"pair {number}"))
        for number, (src, trg) in enumerate(zip(sources, targets, strict=True), 1)
    ]
    decoded = (tokenizer.decode_marked_batch(ids) for ids in zip(*parts, strict=True))
    return list(zip(*decoded, strict=True))


def _parts(ids: list[int], mask: list[int]) -> tuple[list[int], list[int]]:
    """The given ids and the free ones."""
    cut = len(mask) - sum(mask)
    return ids[:cut], ids[cut:]
