"""Variety of n-grams over all texts."""

from typing import ClassVar, Literal

from pydantic import Field

from dlkit.metrics import register
from dlkit.metrics._base import Cases, Metric, mean
from dlkit.metrics._bleu import ngrams


@register(
    "distinct_n",
    description="share of different n-grams among those of all texts",
    paper="Li et al. 2016, arXiv 1510.03055",
)
class DistinctN(Metric):
    """Different n-grams / n-grams, in [0, 1]; 0 if there are none. Words are what stands between white space.

    Over the corpus both are counted over all samples together: texts that are alike lower it, and so do more texts and
    longer ones, because words recur; compare only values of as many texts. Over each text it is the mean of the texts'
    own shares (dist-1 with n = 1), to which a text without n-gram adds 0, and says nothing of texts that are alike.

    Attributes:
        n: the order.
        over: ``corpus`` or ``text``.
    """

    n: int = Field(default=2, ge=1)
    over: Literal["corpus", "text"] = "corpus"

    higher_is_better: ClassVar[bool] = True
    for_texts: ClassVar[bool] = True

    def score(self, cases: Cases) -> float:
        grams = [ngrams(text.split(), self.n) for samples in cases.hypotheses for text in samples]
        if self.over == "text":
            return mean([_share(each) for each in grams])
        return _share([gram for each in grams for gram in each])


def _share(grams: list[tuple[str, ...]]) -> float:
    return len(set(grams)) / len(grams) if grams else 0.0
