"""Minimum Bayes risk: of several samples take the one that the others agree with most."""

import math
from collections import Counter
from collections.abc import Sequence

from dlkit.errors import UserError
from dlkit.metrics._bleu import Sentence, pairwise_bleu


def mbr_select(samples: Sequence[str]) -> int:
    """Index of ``argmax_i sum_{j != i} BLEU(hypothesis s_i, reference s_j)``; the first of equals.

    Equal texts are compared once and weighted by their number, and sums are exact, so equal texts tie exactly.

    Source: Kumar & Byrne 2004, with DiffuSeq's choice of gain.

    Raises:
        UserError: there is no sample.
    """
    if not samples:
        raise UserError("there is no sample to choose from; give at least one")
    counts = Counter(samples)
    scores = dict(zip(counts, _gains(counts), strict=True))
    return max(range(len(samples)), key=lambda i: scores[samples[i]])


def _gains(counts: Counter[str]) -> list[float]:
    matrix = pairwise_bleu([Sentence.of(text) for text in counts])
    return [
        math.fsum([*(n * gain for n, gain in zip(counts.values(), row, strict=True)), -row[i]])
        for i, row in enumerate(matrix)
    ]


def mbr(hypotheses: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each source a list of its one chosen sample. Raises ``UserError`` where a source has none."""
    return [[samples[mbr_select(samples)]] for samples in hypotheses]
