"""Likeness of the samples of one source."""

from itertools import combinations
from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric, mean
from dlkit.metrics._bleu import Sentence, bleu


@register(
    "self_bleu",
    description="mean BLEU between samples of one source, as nltk 3.10; 1 means they are all alike",
    paper="Zhu et al. 2018; protocol of DiffuSeq (Gong et al. 2023)",
)
class SelfBleu(SourceMetric):
    """Mean over sources of ``2 / (S(S-1)) * sum_{i<j} BLEU(hypothesis s_i, reference s_j)``, in [0, 1].

    The earlier sample is the hypothesis, as in DiffuSeq. BLEU is not symmetric, so samples of different lengths in
    another order give a slightly different number.
    """

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"samples>=2"})

    def of_source(self, case: Case) -> float:
        sentences = [Sentence.of(text) for text in case.hypotheses]
        return mean([bleu(earlier, [later]) for earlier, later in combinations(sentences, 2)])
