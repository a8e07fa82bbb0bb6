"""The texts of a run: which rows a step sees with the numbers of its samples, and what it is validated on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from dlkit.data import grammar
from dlkit.data.pairs import Pair, read_split
from dlkit.data.sequences import Batch, Layout, Overlong, Rows, batch_indices, packed_texts, padded_text
from dlkit.data.splits import fingerprint, has_split
from dlkit.data.texts import read_texts
from dlkit.data.tokenizer import Tokenizer
from dlkit.errors import UserError
from dlkit.metrics._base import Cases, Sequences


@dataclass(frozen=True)
class Draw:
    """One step's rows.

    Attributes:
        batch: ids and masks.
        index: the number of each sample in the run; its random numbers follow from it.
    """

    batch: Batch
    index: Int[Tensor, " b"]

    def rows(self, which: Int[Tensor, " k"]) -> "Draw":
        """Some of them, with their numbers."""
        return Draw(self.batch.rows(which), self.index[which])


Examples = Sequence[Pair] | Sequence[str]
"""Pairs, or texts without a source."""


def read_examples(folder: str | Path, split: str, layout: Layout, limit: int | None = None) -> Examples:
    """What a split holds for models of a layout. Raises ``UserError`` where it holds something else, or nothing."""
    return read_split(folder, split, limit) if layout == "pairs" else read_texts(folder, split, limit)


def all_texts(examples: Examples) -> Iterator[str]:
    """Every text of some examples, sources and references alike: what a tokenizer is trained on."""
    for example in examples:
        if isinstance(example, Pair):
            yield from (example.src, *example.refs)
        else:
            yield example


class Corpus:
    """The rows of a data folder, for training if nothing else is said.

    Args:
        folder: whose they are, for messages.
        tokenizer, seq_len, overlong, layout: how texts become rows.
        examples: of the split.
        split: which one, for messages.

    Raises:
        UserError: a text is too long and ``overlong`` is "refuse", or packed texts do not fill a row.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer: Tokenizer,
        seq_len: int,
        overlong: Overlong,
        examples: Examples,
        layout: Layout = "pairs",
        split: str = "train",
    ) -> None:
        name, given = f"{folder}/{split}", list(examples)
        if layout == "pairs":
            self.rows = Rows.of_pairs(given, tokenizer, seq_len, overlong, name)  # type: ignore[arg-type]
        elif layout == "padded":
            self.rows = Rows.padded(given, tokenizer, seq_len, overlong, name)  # type: ignore[arg-type]
        else:
            self.rows = Rows.packed(given, tokenizer, seq_len, name)  # type: ignore[arg-type]

    def draw(self, batch_size: int, step: int, seed: int, device: torch.device) -> Draw:
        """The rows of a step: consecutive pieces of one shuffled epoch after the other."""
        batch = self.rows.gather(batch_indices(len(self.rows), batch_size, step, seed))
        index = torch.arange(batch_size) + step * batch_size
        return Draw(Batch(sent(batch.ids, device), sent(batch.mask, device), batch.index), sent(index, device))


def sent(x: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """On the device; to a GPU from pinned memory, so that nobody waits for the copy."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


@dataclass(frozen=True)
class HeldOut:
    """Texts to validate on, with what the grammar knows of them if they come from it.

    Attributes:
        pairs: sources and references.
        grammar: None unless the data folder says it is the built-in corpus.
    """

    pairs: list[Pair]
    grammar: "grammar.Grammar | None"

    @classmethod
    def read(cls, folder: str | Path, split: str, limit: int | None = None) -> "HeldOut":
        """The first ``limit`` pairs of a split. Raises ``UserError`` if the split is missing or malformed."""
        pairs = read_split(folder, split, limit)
        return cls(pairs, grammar.Grammar() if grammar.is_grammar(folder) else None)

    def normalised(
        self, tokenizer: Tokenizer, seq_len: int | None = None, overlong: Overlong = "truncate"
    ) -> "HeldOut":
        """References as the model would write them (encoded and decoded again), which is how DiffuSeq scores; uncut."""
        refs = iter(tokenizer.decode_batch(tokenizer.encode_batch([ref for pair in self.pairs for ref in pair.refs])))
        pairs = [Pair(pair.src, tuple(next(refs) for _ in pair.refs)) for pair in self.pairs]
        return HeldOut(pairs, self.grammar)

    @property
    def sources(self) -> list[str]:
        return [pair.src for pair in self.pairs]

    @property
    def n_sources(self) -> int:
        return len(self.pairs)

    def request(self, num_samples: int) -> dict[str, Any]:
        """What a model is asked for: so many samples of each source."""
        return {"sources": self.sources, "num_samples": num_samples}

    def cases(self, hypotheses: list[list[str]], sequences: Sequences | None = None) -> Cases:
        """Outputs beside what they should be; the sequences that they are read from say nothing more of pairs."""
        paraphrases = None if self.grammar is None else self.grammar.paraphrases
        return Cases(self.sources, hypotheses, [pair.refs for pair in self.pairs], paraphrases)

    def blank_cases(self, num_samples: int) -> Cases:
        """Cases of empty outputs, which offer what the cases of real ones will."""
        return self.cases([[""] * num_samples] * len(self.pairs))


@dataclass(frozen=True)
class HeldOutTexts:
    """Texts to validate a model on that writes without a source.

    Attributes:
        texts: what it should write like.
        layout: ``padded`` or ``packed``, as the model's.
    """

    texts: list[str]
    layout: Layout
    n_sources: ClassVar[int] = 0

    def normalised(self, tokenizer: Tokenizer, seq_len: int, overlong: Overlong = "truncate") -> "HeldOutTexts":
        """The texts as the model would write them: encoded, laid out in ``seq_len`` ids and decoded.

        Packed texts become as many as they fill rows, a last one that is not full included.

        Raises:
            UserError: a text does not fit and ``overlong`` is ``"refuse"``.
        """
        encoded, marks = tokenizer.encode_batch(self.texts), (tokenizer.sep_id, tokenizer.pad_id)
        if self.layout == "packed":
            rows = list(packed_texts(encoded, seq_len, tokenizer.cls_id, tokenizer.sep_id))
        else:
            numbered = enumerate(encoded, 1)
            rows = [padded_text(ids, seq_len, *marks, overlong, f"held-out text {number}") for number, ids in numbered]
        return replace(self, texts=tokenizer.decode_batch(rows))

    def request(self, num_samples: int) -> dict[str, Any]:
        """What a model is asked for: so many texts."""
        return {"num_samples": num_samples}

    def cases(self, hypotheses: list[list[str]], sequences: Sequences | None = None) -> Cases:
        """Outputs, and the sequences that they are read from, beside the texts that they should be like."""
        return Cases.without_sources([text for group in hypotheses for text in group], self.texts, sequences)

    def blank_cases(self, num_samples: int) -> Cases:
        """Cases of empty outputs, which offer what the cases of real ones will."""
        return self.cases([[""] * num_samples], Sequences([[]] * num_samples, [""] * num_samples))


def read_held_out(folder: str | Path, split: str, layout: Layout, limit: int | None = None) -> HeldOut | HeldOutTexts:
    """The first ``limit`` examples of a split. Raises ``UserError`` if the split is missing or malformed."""
    if layout == "pairs":
        return HeldOut.read(folder, split, limit)
    return HeldOutTexts(read_texts(folder, split, limit), layout)


def data_identity(folder: str | Path) -> dict[str, str]:
    """Hashes of the splits of a data folder, by which a resumed run knows its data again.

    Raises:
        UserError: there is no such folder, or no training split in it.
    """
    if not Path(folder).exists():
        raise UserError(f"the data folder {folder} does not exist")
    return {s: fingerprint(folder, s) for s in ("train", "valid") if s == "train" or has_split(folder, s)}
