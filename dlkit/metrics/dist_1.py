"""Variety of words within a sentence."""

from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric, mean


@register(
    "dist_1",
    description="mean share of distinct words in a sentence",
    paper="Li et al. 2016; protocol of DiffuSeq (Gong et al. 2023)",
)
class Dist1(SourceMetric):
    """Mean over all samples of distinct words / words, in [0, 1]; 0 for an empty sample.

    It falls when a sentence repeats words; it says nothing of variety between samples.
    """

    higher_is_better: ClassVar[bool] = True

    def of_source(self, case: Case) -> float:
        return mean([distinct_share(text.split()) for text in case.hypotheses])


def distinct_share(words: list[str]) -> float:
    """Distinct words / words, 0 if there are none."""
    return len(set(words)) / len(words) if words else 0.0
