"""Texts as sequences of fixed length, and which rows a training step sees.

One pair is one sequence ``[CLS] src [SEP] [SEP] [CLS] trg [SEP] [PAD] ...``, as in DiffuSeq. Its mask tells the given
part (0: the source and the separator after it) from the part to generate (1: the target and the padding, whose length
the model thereby learns). Of texts without a source nothing is given: the mask is 1 everywhere.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dlkit.data.pairs import Pair
from dlkit.data.tokenizer import Tokenizer
from dlkit.errors import UserError

Overlong = Literal["truncate", "refuse"]
Layout = Literal["pairs", "padded", "packed"]

CHUNK = 8192  # texts tokenised at once: bounds the memory that lists of ids take


def merge_pair(
    src_ids: Sequence[int],
    trg_ids: Sequence[int],
    seq_len: int,
    sep_id: int,
    pad_id: int,
    overlong: Overlong = "truncate",
    where: str = "a pair",
) -> tuple[list[int], list[int]]:
    """Lay a source and a target out as one sequence of ``seq_len`` ids with its mask.

    Both come with their first and last special id, so the pair takes len(src) + len(trg) + 1 positions. A longer one is
    cut: the last ids are set aside, words popped from the longer part (from both when equally long, so that one
    position may stay unused), and the source's last id put back on both.

    Args:
        overlong: cut a pair that is too long, or refuse it.
        where: names the pair in an error message.

    Returns:
        ids and mask, ``seq_len`` each; the mask is 0 on the source and the separator, 1 on the target and the padding.

    Raises:
        UserError: the pair is too long and ``overlong`` is ``"refuse"``, or ``seq_len`` is below 3.
        ValueError: one part has no id at all.

    Source: DiffuSeq (Gong et al., ICLR 2023, arXiv:2210.08933), data format of the authors' code.
    """
    _check(seq_len, 3, src_ids, trg_ids)
    end, src, trg = src_ids[-1], list(src_ids[:-1]), list(trg_ids[:-1])
    room = seq_len - 3
    if len(src) + len(trg) > room and overlong == "refuse":
        raise UserError(_too_long(where, f"{len(src_ids)} source and {len(trg_ids)} target ids", room + 2, seq_len))
    while len(src) + len(trg) > room:
        longer = len(src) - len(trg)
        if longer >= 0:
            src.pop()
        if longer <= 0:
            trg.pop()
    return _padded([*src, end, sep_id], [*trg, end], seq_len, pad_id)


def merge_source(
    src_ids: Sequence[int],
    seq_len: int,
    sep_id: int,
    pad_id: int,
    overlong: Overlong = "truncate",
    where: str = "a source",
    min_target: int = 4,
) -> tuple[list[int], list[int]]:
    """Lay out a source alone, for generation: all positions after the separator are the target's (pad ids, mask 1).

    At least ``min_target`` positions are left to the target (4 are the least that can hold two words between its
    special ids); a source that leaves fewer loses its last words.

    Raises:
        UserError: the source is too long and ``overlong`` is ``"refuse"``, or ``seq_len`` has no room for any source.
        ValueError: the source has no id at all.
    """
    _check(seq_len, min_target + 2, src_ids)
    room = seq_len - min_target - 1
    if len(src_ids) > room and overlong == "refuse":
        raise UserError(_too_long(where, f"{len(src_ids)} source ids", room, seq_len))
    return _padded([*src_ids[:-1][: room - 1], src_ids[-1], sep_id], [], seq_len, pad_id)


def padded_text(
    ids: Sequence[int],
    seq_len: int,
    sep_id: int,
    pad_id: int,
    overlong: Overlong = "truncate",
    where: str = "a text",
) -> list[int]:
    """Lay out a text alone: ``[CLS] text [SEP] [PAD] ...``. A longer one loses its last words and keeps its ``[SEP]``.

    Args:
        ids: with its first and last special id.
        overlong: cut a text that is too long, or refuse it.
        where: names the text in an error message.

    Raises:
        UserError: the text is too long and ``overlong`` is ``"refuse"``, or ``seq_len`` is below 3.
    """
    _check(seq_len, 3)
    if len(ids) <= seq_len:
        return padded(ids, seq_len, pad_id)
    if overlong == "refuse":
        raise UserError(_too_long(where, f"{len(ids)} ids", seq_len, seq_len))
    return [*ids[: seq_len - 1], sep_id]


def packed_texts(encoded: Iterable[Sequence[int]], seq_len: int, cls_id: int, sep_id: int) -> Iterator[list[int]]:
    """Lay out texts one after another, each followed by ``[SEP]``, cut every seq_len - 2 ids: ``[CLS] piece [SEP]``.

    The last piece may be shorter than the others.

    Args:
        encoded: ids of each text with its first and last special id.

    Raises:
        UserError: ``seq_len`` is below 3.

    Source: the wrapped text of MDLM (Sahoo et al. 2024, arXiv 2406.07524), on which FLM (arXiv 2602.16813) is trained.
    """
    _check(seq_len, 3)
    room, left = seq_len - 2, []
    for ids in encoded:
        left += ids[1:]
        whole = len(left) // room * room
        for start in range(0, whole, room):
            yield [cls_id, *left[start : start + room], sep_id]
        left = left[whole:]
    if left:
        yield [cls_id, *left, sep_id]


def _check(seq_len: int, least: int, *parts: Sequence[int]) -> None:
    if seq_len < least:
        raise UserError(f"a sequence of {seq_len} ids cannot hold a text; set model.seq_len to {least} or more")
    if not all(parts):
        raise ValueError("a part without any id; it needs its special ids at least")


def _too_long(where: str, lengths: str, room: int, seq_len: int) -> str:
    return (
        f"{where}: {lengths}, but only {room} fit a sequence of {seq_len}; "
        "set model.overlong=truncate or a larger model.seq_len"
    )


def _padded(given: list[int], target: list[int], seq_len: int, pad_id: int) -> tuple[list[int], list[int]]:
    return padded(given + target, seq_len, pad_id), padded([0] * len(given), seq_len, 1)


def without_source(
    ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"], dropped: Bool[Tensor, " b"], pad_id: int
) -> Int[Tensor, "b l"]:
    """The rows with all given tokens of the ``dropped`` ones replaced by padding, separators included.

    They stay given: what is left of the source is its length, by where the target begins.
    """
    return ids.masked_fill(dropped[:, None] & ~mask, pad_id)


def padded(row: Sequence[int], length: int, value: int) -> list[int]:
    """``row`` as exactly ``length`` numbers: cut, or filled up with ``value``."""
    return [*row[:length], *[value] * (length - len(row))]


@dataclass
class Batch:
    """Rows of one step.

    Attributes:
        ids: token ids (int64).
        mask: True where the model generates: target and padding.
        index: the row of each in its data set (int64), to which per-sample randomness is tied.
    """

    ids: Int[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]
    index: Int[Tensor, " b"]

    def rows(self, which: Int[Tensor, " k"]) -> "Batch":
        """Some of the rows."""
        return Batch(self.ids[which], self.mask[which], self.index[which])


@dataclass(frozen=True)
class Rows:
    """A split as two tensors: one row for each source with each of its references, or rows of texts without a source.

    Attributes:
        ids: token ids, int16 where the vocabulary allows it and else int32.
        mask: True on what is generated: target and padding; all of a text without a source.
        n_truncated: how many rows were cut.
    """

    ids: Int[Tensor, "n l"]
    mask: Bool[Tensor, "n l"]
    n_truncated: int

    @classmethod
    def of_pairs(
        cls,
        pairs: Sequence[Pair],
        tokenizer: Tokenizer,
        seq_len: int,
        overlong: Overlong = "truncate",
        name: str = "data",
    ) -> "Rows":
        """Tokenise and lay out all pairs; ``name`` (of the split, say) leads error messages.

        Raises:
            UserError: there is no pair, or one is too long and ``overlong`` is ``"refuse"``.
        """
        if not pairs:
            raise UserError(f"{name}: no pairs to encode; give at least one")
        ids, lengths, n_truncated = [], [], 0
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            numbered = enumerate(chunk, start + 1)
            rows = [(f"{name}: pair {number}", pair.src, ref) for number, pair in numbered for ref in pair.refs]
            sources = tokenizer.encode_batch([src for _, src, _ in rows])
            targets = tokenizer.encode_batch([trg for _, _, trg in rows])
            merged = [
                merge_pair(src, trg, seq_len, tokenizer.sep_id, tokenizer.pad_id, overlong, where)
                for (where, _, _), src, trg in zip(rows, sources, targets, strict=True)
            ]
            n_truncated += sum(len(s) + len(t) + 1 > seq_len for s, t in zip(sources, targets, strict=True))
            ids.append(_small([row for row, _ in merged], tokenizer))
            lengths += [seq_len - sum(mask) for _, mask in merged]
        mask = torch.arange(seq_len) >= torch.tensor(lengths)[:, None]
        return cls(torch.cat(ids), mask, n_truncated)

    @classmethod
    def padded(
        cls,
        texts: Sequence[str],
        tokenizer: Tokenizer,
        seq_len: int,
        overlong: Overlong = "truncate",
        name: str = "data",
    ) -> "Rows":
        """Tokenise texts and lay out each alone, see :func:`padded_text`.

        Raises:
            UserError: there is no text, or one is too long and ``overlong`` is ``"refuse"``.
        """
        if not texts:
            raise UserError(f"{name}: no texts to encode; give at least one")
        found, n_truncated = [], 0
        for start in range(0, len(texts), CHUNK):
            encoded = tokenizer.encode_batch(texts[start : start + CHUNK])
            rows = [
                padded_text(ids, seq_len, tokenizer.sep_id, tokenizer.pad_id, overlong, f"{name}: text {number}")
                for number, ids in enumerate(encoded, start + 1)
            ]
            n_truncated += sum(len(ids) > seq_len for ids in encoded)
            found.append(_small(rows, tokenizer))
        ids = torch.cat(found)
        return cls(ids, torch.ones_like(ids, dtype=torch.bool), n_truncated)

    @classmethod
    def packed(cls, texts: Sequence[str], tokenizer: Tokenizer, seq_len: int, name: str = "data") -> "Rows":
        """Tokenise texts and lay them out one after another, see :func:`packed_texts`; a short last row is dropped.

        Raises:
            UserError: the texts do not fill one row.
        """
        for rows in cls.packed_to_the_end(texts, tokenizer, seq_len):
            if rows.ids.shape[1] == seq_len:
                return rows
        raise UserError(
            f"{name}: all texts together do not fill one row of {seq_len} ids; give more text, set a smaller "
            "model.seq_len, or set model.layout=padded"
        )

    @classmethod
    def packed_to_the_end(cls, texts: Sequence[str], tokenizer: Tokenizer, seq_len: int) -> list["Rows"]:
        """The same with the short last row, as rows of its own length behind the others."""
        starts = range(0, len(texts), CHUNK)
        encoded = (ids for start in starts for ids in tokenizer.encode_batch(texts[start : start + CHUNK]))
        rows = packed_texts(encoded, seq_len, tokenizer.cls_id, tokenizer.sep_id)
        full, short = [], []
        while some := list(islice(rows, CHUNK)):
            if len(some[-1]) < seq_len:
                short.append(_small([some.pop()], tokenizer))
            if some:
                full.append(_small(some, tokenizer))
        ids = [torch.cat(same) for same in (full, short) if same]
        return [cls(each, torch.ones_like(each, dtype=torch.bool), 0) for each in ids]

    def __len__(self) -> int:
        return self.ids.shape[0]

    def gather(self, indices: Int[Tensor, " b"]) -> Batch:
        """The rows of these indices, in their order."""
        return Batch(self.ids[indices].long(), self.mask[indices], indices)


def _small(rows: list[list[int]], tokenizer: Tokenizer) -> Int[Tensor, "n l"]:
    """Ids in as little memory as the vocabulary allows."""
    return torch.tensor(rows, dtype=torch.int16 if tokenizer.vocab_size <= 2**15 else torch.int32)


def epoch_order(n: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    """The order in which an epoch visits ``n`` rows: a permutation that is a function of the three arguments alone."""
    return _order(n, seed, epoch).clone()


def batch_indices(n: int, batch_size: int, step: int, seed: int) -> Int[Tensor, " b"]:
    """The rows of step ``step`` (from 0): a function of its arguments alone, so any step can be resumed at.

    The sample stream is the epochs' orders one after another, and step k takes its samples k·b .. (k+1)·b - 1. A batch
    may thus reach across the end of an epoch, and be larger than the data set.

    Raises:
        ValueError: ``n`` or ``batch_size`` is below 1, or ``step`` below 0.
    """
    if n < 1 or batch_size < 1 or step < 0:
        raise ValueError(f"need n >= 1, batch_size >= 1 and step >= 0, not {n}, {batch_size} and {step}")
    first, last = step * batch_size, (step + 1) * batch_size
    epochs = range(first // n, (last - 1) // n + 1)
    stream = torch.cat([_order(n, seed, epoch) for epoch in epochs])
    offset = epochs.start * n
    return stream[first - offset : last - offset]


@lru_cache(maxsize=8)  # neighbouring steps ask for the same epoch; several streams may be drawn from in turn
def _order(n: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    digest = hashlib.sha256(f"epoch order {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.randperm(n, generator=generator)
