"""Variety of words within a text."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal

from dlkit.errors import UserError
from dlkit.metrics import register
from dlkit.metrics._base import Case, Cases, SourceMetric, mean


@register(
    "entropy",
    description="mean unigram entropy of a text, in nats",
    paper="Shannon 1948; of tokens as FLM (arXiv 2602.16813) reports it",
)
class Entropy(SourceMetric):
    """Mean over all samples of - sum p ln p, with the shares p of the different words of a text.

    It lies between 0 (one word over and over; also an empty text) and ln n for n words that all differ, so it grows
    with the length. It falls when a model repeats itself, which a perplexity does not show.

    Attributes:
        of: ``words``, split at white space, or ``tokens``: all that the model wrote in a sequence, marks and padding
            included, as FLM counts. Those are known only of texts that a model without sources has just written.

    Raises:
        UserError: tokens are asked for that are not known.
    """

    of: Literal["words", "tokens"] = "words"

    higher_is_better: ClassVar[bool] = True
    for_texts: ClassVar[bool] = True

    def of_source(self, case: Case) -> float:
        return mean([entropy(text.split()) for text in case.hypotheses])

    def per_source(self, cases: Cases) -> list[float]:
        if self.of == "words":
            return super().per_source(cases)
        if cases.sequences is None:
            raise UserError("metric 'entropy': the tokens of these texts are not known; set of=words")
        return [entropy(ids) for ids in cases.sequences.ids]


def entropy(items: Sequence[Hashable]) -> float:
    """-sum p ln p over the shares of the different items, in nats; 0 if there are none."""
    return math.fsum(-count / len(items) * math.log(count / len(items)) for count in Counter(items).values())
