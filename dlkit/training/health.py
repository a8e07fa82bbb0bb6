"""Signs of a run going wrong: copying, padding, repetition, collapse, and where in time the error sits."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.errors import UserError

BINS = 4


def time_bins(value: Float[Tensor, " b"], t: Float[Tensor, " b"]) -> dict[str, float]:
    """Mean of a per-sample value over the samples of each quarter of [0, 1] that has any."""
    which = (t * BINS).long().clamp(max=BINS - 1).tolist()
    values = value.detach().float().tolist()
    found = {b: [v for v, k in zip(values, which, strict=True) if k == b] for b in range(BINS)}
    return {f"t{b / BINS:.2f}-{(b + 1) / BINS:.2f}": sum(vs) / len(vs) for b, vs in found.items() if vs}


def text_health(sources: Sequence[str] | None, texts: Sequence[Sequence[str]]) -> dict[str, float]:
    """Shares over all texts, except ``unique``.

    empty      nothing was written before the end mark
    repetition words that repeat the word before them
    copy       equal to the source; left out where there are none
    unique     distinct texts among the samples of a source (mean over sources), or among all
    """
    flat = [text for group in texts for text in group]
    words = [text.split() for text in flat]
    repeats = sum(a == b for ws in words for a, b in pairwise(ws))
    found = {
        "empty": sum(not text.strip() for text in flat) / len(flat),
        "repetition": repeats / max(sum(max(len(ws) - 1, 0) for ws in words), 1),
    }
    if sources is not None:
        pairs = [(source, text) for source, group in zip(sources, texts, strict=True) for text in group]
        found["copy"] = sum(text.split() == source.lower().split() for source, text in pairs) / len(flat)
    return {**found, "unique": sum(len(set(group)) / len(group) for group in texts) / len(texts)}


def rounded(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers for a log, to six significant digits: a mean over one-hot states is of the order of 1e-5."""
    return {name: float(f"{float(value):.6g}") for name, value in values.items()}


def largest(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest size of a weight, for :func:`refuse_nan`; not finite if any weight is not."""
    return {"the largest averaged weight": float(torch.stack([w.abs().amax() for w in weights.values()]).amax())}


def refuse_nan(numbers: Mapping[str, float], step: int, clip: str) -> None:
    """Stop a run whose losses are lost.

    Args:
        numbers: losses and norms.
        step: for the message.
        clip: the settings that may help, for the message.

    Raises:
        UserError: one of the numbers is not finite.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise UserError(f"step {step}: {name} is {value}; lower the learning rate or set {clip}")
