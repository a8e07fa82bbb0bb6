"""DiffuSeq's BLEU."""

from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric, mean
from dlkit.metrics._bleu import Sentence, bleu


@register(
    "bleu",
    description="mean sentence BLEU-4, method-4 smoothing, words split at white space, as nltk 3.10",
    paper="Papineni et al. 2002; Chen & Cherry 2014; protocol of DiffuSeq (Gong et al. 2023)",
)
class Bleu(SourceMetric):
    """Mean over all samples of sentence BLEU against all references of their source, in [0, 1].

    Equal to nltk 3.10's ``sentence_bleu`` with ``SmoothingFunction().method4``; formula at
    :func:`dlkit.metrics._bleu.bleu`.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"references"})

    def of_source(self, case: Case) -> float:
        references = [Sentence.of(text) for text in case.references]
        return mean([bleu(Sentence.of(text), references) for text in case.hypotheses])
