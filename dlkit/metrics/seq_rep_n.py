"""How much a text repeats itself."""

from typing import ClassVar

from pydantic import Field

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric, mean
from dlkit.metrics._bleu import ngrams


@register(
    "seq_rep_n",
    description="mean share of n-grams of a text that stood in it before",
    paper="Welleck et al. 2020, arXiv 1908.04319",
)
class SeqRepN(SourceMetric):
    """Mean over all samples of 1 - different n-grams / n-grams, in [0, 1); 0 for a text without n-gram.

    Attributes:
        n: the order, words being what stands between white space.
    """

    n: int = Field(default=4, ge=1)

    higher_is_better: ClassVar[bool] = False
    for_texts: ClassVar[bool] = True

    def of_source(self, case: Case) -> float:
        return mean([repeated(ngrams(text.split(), self.n)) for text in case.hypotheses])


def repeated(grams: list[tuple[str, ...]]) -> float:
    """1 - different n-grams / n-grams, 0 if there are none."""
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
