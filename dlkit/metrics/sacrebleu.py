"""Corpus BLEU by the sacrebleu library."""

from itertools import zip_longest
from typing import ClassVar, Literal

from sacrebleu.metrics.bleu import BLEU

from dlkit.metrics import register
from dlkit.metrics._base import Cases, Metric


@register("sacrebleu", description="corpus BLEU of the first samples, by sacrebleu", paper="Post 2018")
class SacreBleu(Metric):
    """Corpus BLEU of the first sample of each source against all its references, scaled to [0, 1].

    Matches are pooled over the corpus before precisions are taken, so the number is not comparable with ``bleu``.

    Attributes:
        tokenize: sacrebleu's tokeniser.
        lowercase: disregard case.
    """

    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    lowercase: bool = False

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"references"})

    def score(self, cases: Cases) -> float:
        """Corpus BLEU / 100. Raises ``UserError`` where a source has no reference."""
        self.require(cases)
        first = [samples[0] for samples in cases.hypotheses]
        # The library wants the first references of all sources, then the second ones, with None where there is none.
        streams = list(zip_longest(*cases.references))
        # force: our texts are tokenised already, which is no cause for a warning
        library = BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)
        return library.corpus_score(first, streams).score / 100
