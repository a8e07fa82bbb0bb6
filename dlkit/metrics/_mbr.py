"""Minimum Bayes risk: of several samples take the one that the others agree with most."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from dlkit.errors import UserError
from dlkit.metrics._bleu import Sentence, pairwise_bleu


def mbr_select(samples: Sequence[str]) -> int:
    """Index of ``argmax_i sum_{j != i} BLEU(hypothesis s_i, reference s_j)``; the first of equals.

    Sums are taken by numpy in the order of the samples, as DiffuSeq's evaluation takes them: then the choice is the
    same even between samples whose sums differ by rounding alone.

    Source: Kumar & Byrne 2004, with DiffuSeq's choice of gain.

    Raises:
        UserError: there is no sample.
    """
    if not samples:
        raise UserError("there is no sample to choose from; give at least one")
    return int(gains(samples).argmax())


def gains(samples: Sequence[str]) -> Float64[np.ndarray, " s"]:
    """How much the other samples agree with each: ``sum_{j != i} BLEU(hypothesis s_i, reference s_j)``, in [0, S-1]."""
    distinct = list(dict.fromkeys(samples))  # equal texts are compared once
    places = [distinct.index(text) for text in samples]
    matrix = np.array(pairwise_bleu([Sentence.of(text) for text in distinct]))[np.ix_(places, places)]
    np.fill_diagonal(matrix, 0.0)
    return matrix.sum(-1)


def mbr(hypotheses: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each source a list of its one chosen sample. Raises ``UserError`` where a source has none."""
    return [[samples[mbr_select(samples)]] for samples in hypotheses]
