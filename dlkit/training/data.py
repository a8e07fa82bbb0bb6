"""The batches of a run: which rows a step sees, and the numbers of its samples."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from dlkit.data import grammar
from dlkit.data.pairs import Pair, fingerprint, has_split, read_split
from dlkit.data.sequences import Batch, EncodedPairs, batch_indices
from dlkit.data.tokenizer import Tokenizer
from dlkit.errors import UserError
from dlkit.metrics._base import Cases


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


class Corpus:
    """The training rows of a data folder.

    Args:
        folder: with train.jsonl or train.jsonl.gz.
        tokenizer, seq_len, overlong: how texts become rows.
        pairs: the training pairs, if they were read already.

    Raises:
        UserError: a file is missing or malformed, or a text is too long and ``overlong`` is "refuse".
    """

    def __init__(
        self, folder: str | Path, tokenizer: Tokenizer, seq_len: int, overlong: str, pairs: list[Pair]
    ) -> None:
        self.rows = EncodedPairs.encode(pairs, tokenizer, seq_len, overlong, name=f"{folder}/train")  # type: ignore[arg-type]

    def draw(self, batch_size: int, step: int, seed: int, device: torch.device) -> Draw:
        """The rows of a step: consecutive pieces of one shuffled epoch after the other."""
        batch = self.rows.gather(batch_indices(len(self.rows), batch_size, step, seed))
        index = torch.arange(batch_size) + step * batch_size
        return Draw(Batch(batch.ids.to(device), batch.mask.to(device), batch.index), index.to(device))


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

    def normalised(self, tokenizer: Tokenizer) -> "HeldOut":
        """References as the model would write them (encoded and decoded again), which is how DiffuSeq scores."""
        refs = iter(tokenizer.decode_batch(tokenizer.encode_batch([ref for pair in self.pairs for ref in pair.refs])))
        pairs = [Pair(pair.src, tuple(next(refs) for _ in pair.refs)) for pair in self.pairs]
        return HeldOut(pairs, self.grammar)

    @property
    def sources(self) -> list[str]:
        return [pair.src for pair in self.pairs]

    def cases(self, hypotheses: list[list[str]]) -> Cases:
        """Outputs beside what they should be."""
        paraphrases = None if self.grammar is None else self.grammar.paraphrases
        return Cases(self.sources, hypotheses, [pair.refs for pair in self.pairs], paraphrases)


def data_identity(folder: str | Path) -> dict[str, str]:
    """Hashes of the splits of a data folder, by which a resumed run knows its data again.

    Raises:
        UserError: there is no such folder, or no training split in it.
    """
    if not Path(folder).exists():
        raise UserError(f"the data folder {folder} does not exist")
    return {s: fingerprint(folder, s) for s in ("train", "valid") if s == "train" or has_split(folder, s)}
