"""ROUGE-L."""

import re
from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric, mean


@register(
    "rouge_l",
    description="mean F-measure of the longest common subsequence of words, as torchmetrics 1.9",
    paper="Lin 2004; protocol of DiffuSeq (Gong et al. 2023)",
)
class RougeL(SourceMetric):
    """Mean over all samples of the ROUGE-L F-measure, in [0, 1]; of several references the best F counts.

    Equal to torchmetrics 1.9's ``rougeL_fmeasure`` (up to its single precision).
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"references"})

    def of_source(self, case: Case) -> float:
        references = [words(text) for text in case.references]
        return mean([max(f_measure(words(text), ref) for ref in references) for text in case.hypotheses])


def words(text: str) -> list[str]:
    """Runs of a-z and 0-9 in lower case; everything else, letters with accents too, parts words. No stemming."""
    return re.findall(r"[a-z0-9]+", text.lower())


def f_measure(hypothesis: list[str], reference: list[str]) -> float:
    """``F = 2PR / (P + R) = 2 LCS / (|hypothesis| + |reference|)``, 0 if either is empty. Source: Lin 2004, sec. 3."""
    if not hypothesis or not reference:
        return 0.0
    return 2 * lcs_length(hypothesis, reference) / (len(hypothesis) + len(reference))


def lcs_length(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence, a row of the usual table at a time held in the bits of an integer.

    A zero bit marks a column where the row steps up by one. Source: Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited".
    """
    columns: dict[str, int] = {}
    for i, word in enumerate(one):
        columns[word] = columns.get(word, 0) | 1 << i
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        hits = row & columns.get(word, 0)
        row = (row + hits | row - hits) & full
    return len(one) - row.bit_count()
