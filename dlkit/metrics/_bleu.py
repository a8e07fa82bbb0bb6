"""Sentence BLEU, built for comparing the same sentences many times.

An n-gram's first occurrence in a sentence is the element ``(word_1, ..., word_n)``, and its k-th one, counted from 0,
an element of its own, ``(k, word_1, ..., word_n)``. Then a sentence is one set per order, a clipped count is the size
of an intersection, and the largest count over several references is a union of their sets.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

MAX_ORDER = 4
SMOOTHING = 5  # K of Chen & Cherry

Grams = tuple[frozenset[tuple[int | str, ...]], ...]


def ngrams(words: list[str], order: int) -> list[tuple[str, ...]]:
    """The n-grams of a sentence in order; none if it is shorter than ``order``."""
    return list(zip(*(words[start:] for start in range(order)), strict=False))


@dataclass(frozen=True, slots=True)
class Sentence:
    """What BLEU needs to know of a text.

    Attributes:
        length: number of words, split at white space.
        grams: for each order 1..4 the numbered occurrences of its n-grams.
    """

    length: int
    grams: Grams

    @classmethod
    def of(cls, text: str) -> "Sentence":
        """Read a text once."""
        words = text.split()
        return cls(len(words), tuple(_numbered(ngrams(words, order)) for order in range(1, MAX_ORDER + 1)))


def _numbered(grams: list[tuple[str, ...]]) -> frozenset[tuple[int | str, ...]]:
    distinct = frozenset(grams)
    if len(distinct) == len(grams):  # most sentences repeat nothing
        return distinct
    return distinct.union((k, *gram) for gram, count in Counter(grams).items() for k in range(1, count))


def bleu(hypothesis: Sentence, references: Sequence[Sentence]) -> float:
    """Sentence BLEU-4 with uniform weights, method-4 smoothing and the brevity penalty, in [0, 1].

    Formula: ``BP * exp(1/4 * sum_n log p_n)``, ``BP = min(1, exp(1 - r / c))`` with c words in the hypothesis and r in
    the reference of closest length (the shorter of two equally close). ``p_n`` = clipped matches / n-grams of the
    hypothesis. If the m-th order (counting only those) has no match, its matches are ``ln(c) / (5 * 2^m)``.

    Corners, as in nltk 3.10: no common word gives 0; an order longer than the hypothesis counts one n-gram, without
    match, so a short text does not score 1 against itself ("a b": 0.2214); with one word orders 2-4 are left out.

    Source: Papineni et al. 2002, section 2.3; Chen & Cherry 2014, smoothing 4 on top of the halving of smoothing 3.

    Args:
        hypothesis: what is scored.
        references: at least one.
    """
    closest = min((abs(ref.length - hypothesis.length), ref.length) for ref in references)[1]
    allowed = references[0].grams
    if len(references) > 1:
        allowed = tuple(frozenset().union(*sets) for sets in zip(*(ref.grams for ref in references), strict=True))
    return from_matches(_matches(hypothesis.grams, allowed), hypothesis.length, closest)


def pairwise_bleu(sentences: Sequence[Sentence]) -> list[list[float]]:
    """``matrix[i][j]`` = BLEU of hypothesis i against the single reference j; matches are counted once per pair."""
    matrix = [[0.0] * len(sentences) for _ in sentences]
    for (i, one), (j, other) in combinations_with_replacement(enumerate(sentences), 2):
        matches = _matches(one.grams, other.grams)
        matrix[i][j] = from_matches(matches, one.length, other.length)
        matrix[j][i] = from_matches(matches, other.length, one.length)
    return matrix


def _matches(grams: Grams, allowed: Grams) -> tuple[int, ...]:
    counts = [0] * MAX_ORDER
    for order, (mine, theirs) in enumerate(zip(grams, allowed, strict=True)):
        counts[order] = len(mine & theirs)
        if not counts[order]:  # then no longer n-gram matches either
            break
    return tuple(counts)


@lru_cache(maxsize=1 << 16)  # short sentences meet the same few counts over and over
def from_matches(matches: tuple[int, ...], length: int, reference_length: int) -> float:
    """BLEU from the clipped matches of each order and the lengths of hypothesis and closest reference."""
    if not matches[0]:
        return 0.0
    brevity = min(1.0, math.exp(1 - reference_length / length))
    return brevity * math.exp(math.fsum(_log_precisions(matches, length)) / len(matches))


def _log_precisions(matches: tuple[int, ...], length: int) -> list[float]:
    logs, unmatched = [], 0
    for order, count in enumerate(matches, 1):
        total = max(1, length - order + 1)
        if count:
            logs.append(math.log(count / total))
        elif length > 1:  # ln(1) = 0 smooths nothing: a single word is judged by its unigram alone
            unmatched += 1
            logs.append(math.log(1 / (2**unmatched * SMOOTHING / math.log(length)) / total))
    return logs
