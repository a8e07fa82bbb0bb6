"""Variety of 4-grams between the samples of one source."""

from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric
from dlkit.metrics._bleu import ngrams


@register(
    "div_4",
    description="share of distinct 4-grams among all samples of a source",
    paper="Deshpande et al. 2019; protocol of DiffuSeq (Gong et al. 2023)",
)
class Div4(SourceMetric):
    """Mean over sources of distinct 4-grams / 4-grams, both pooled over the S samples of the source, in [0, 1].

    A source none of whose samples has four words counts 0, as in DiffuSeq.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"samples>=2"})

    def of_source(self, case: Case) -> float:
        pooled = [gram for text in case.hypotheses for gram in ngrams(text.split(), 4)]
        return len(set(pooled)) / len(pooled) if pooled else 0.0
