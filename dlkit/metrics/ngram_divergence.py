"""How far the n-grams of some texts are from those of held-out ones."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import ClassVar, TypeVar

from pydantic import Field

from dlkit.metrics import register
from dlkit.metrics._base import Cases, Metric, mean
from dlkit.metrics._bleu import ngrams

_Key = TypeVar("_Key", bound=Hashable)
BEGIN, END = "<s>", "</s>"


@register(
    "ngram_divergence",
    description="Jensen-Shannon divergence in bits between the n-grams of texts and of held-out texts, mean over n",
    paper="Lin 1991, Divergence measures based on the Shannon entropy",
)
class NgramDivergence(Metric):
    """Mean over orders k = 1 ... n of JS(P_k, Q_k), in [0, 1].

    With the shares p and q that an n-gram has among those of the texts and of the held-out texts, and m = (p + q) / 2,

        JS = 1/2 sum p log2(p / m) + 1/2 sum q log2(q / m).

    The n-grams are those that an n-gram model predicts: of a text's words, in lower case, and one end mark, with
    n - 1 begin marks before them. So wrong words and wrong order count, and so do wrong lengths and texts that are all
    alike, which a perplexity rewards; no language model and no smoothing is needed. 0 is reached where all shares are
    equal, 1 where no n-gram is shared. Two samples of one source are apart too, by more the fewer and the longer the
    texts: compare only values of as many texts.

    Attributes:
        n: the highest order. Of a few hundred texts trigrams are mostly unshared even between halves of one corpus.
    """

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"texts"})
    for_texts: ClassVar[bool] = True

    n: int = Field(default=2, ge=1)

    def score(self, cases: Cases) -> float:
        """The divergence. Raises ``UserError`` where there are no held-out texts."""
        self.require(cases)
        written = [text for samples in cases.hypotheses for text in samples]
        orders = range(1, self.n + 1)
        return mean([js_divergence(counts(written, k), counts(cases.held_out or (), k)) for k in orders])


def counts(texts: Iterable[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram stands in the texts; see :class:`NgramDivergence`."""
    found: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        found.update(ngrams([BEGIN] * (order - 1) + text.lower().split() + [END], order))
    return found


def js_divergence(first: Mapping[_Key, int], second: Mapping[_Key, int]) -> float:
    """Jensen-Shannon divergence in bits of two distributions given as counts; both sum to 1 or more."""
    totals = sum(first.values()), sum(second.values())
    terms = []
    for key in first.keys() | second.keys():
        p, q = (counts.get(key, 0) / total for counts, total in zip((first, second), totals, strict=True))
        terms += [share * math.log2(2 * share / (p + q)) / 2 for share in (p, q) if share]
    return min(1.0, max(0.0, math.fsum(terms)))
