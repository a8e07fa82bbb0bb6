"""BERTScore."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, Cases, SourceMetric, mean
from dlkit.metrics._contextual import Encoder, Words

SOURCES_AT_ONCE = 64  # bounds the memory that the vectors of their texts take


@register(
    "bertscore",
    description="mean BERTScore F1, without idf weights and without rescaling",
    paper="Zhang et al. 2020, arXiv 1904.09675; protocol of DiffuSeq (Gong et al. 2023)",
)
class BertScore(SourceMetric):
    """Mean over all samples of BERTScore's F1, in [-1, 1]; of several references the best F1 counts.

    With unit vectors x_i of the reference's tokens and y_j of the sample's, out of one layer of a language model,

        R = mean_i max_j x_i . y_j,   P = mean_j max_i x_i . y_j,   F1 = 2 P R / (P + R),

    where the means leave out the tokens that begin and end a text, while the maxima may take them. F1 is 0 if either
    text is empty. So does the bert-score package 0.3.13 compute it; but it counts padding, which depends on the batch,
    as a token of similarity 0, where here the maximum is over the text's own tokens alone.

    Attributes:
        model: a name on the model hub, or a folder with a model and its tokenizer. The default is the paper's.
        layer: the number of layers that texts pass through, 0 for the embeddings alone; None takes what bert-score
            takes for that model (known by the last part of its name), and all layers of a model that it does not know.
        batch_size: texts encoded at once.

    Raises:
        UserError: the model or its tokenizer cannot be had, lacks weights, or has fewer layers.
    """

    model: str = "microsoft/deberta-xlarge-mnli"
    layer: int | None = None
    batch_size: int = 64

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"references"})
    on_request: ClassVar[bool] = True

    @cached_property
    def encoder(self) -> Encoder:
        """The model, read once."""
        return Encoder.load(self.model, self.layer)

    def identity(self) -> dict[str, Any]:
        """Name, layer and hash of the weights, and the version of the library that runs them."""
        return self.encoder.identity()

    def of_source(self, case: Case) -> float:
        return next(self._values([case]))

    def per_source(self, cases: Cases) -> list[float]:
        self.require(cases)
        listed = list(cases.each())
        parts = [listed[start : start + SOURCES_AT_ONCE] for start in range(0, len(listed), SOURCES_AT_ONCE)]
        return [value for part in parts for value in self._values(part)]

    def _values(self, cases: Sequence[Case]) -> Iterator[float]:
        texts = dict.fromkeys(text for case in cases for text in [*case.hypotheses, *case.references])
        read = dict(zip(texts, self.encoder.read(list(texts), self.batch_size), strict=True))
        for case in cases:
            references = [read[text] for text in case.references]
            yield mean([max(f1(read[text], reference) for reference in references) for text in case.hypotheses])


def f1(hypothesis: Words, reference: Words) -> float:
    """BERTScore's F1 of one text against another, see :class:`BertScore`."""
    if not (hypothesis.counts.any() and reference.counts.any()):
        return 0.0
    similarity = hypothesis.vectors @ reference.vectors.T
    precision = similarity.amax(1)[hypothesis.counts].mean().item()
    recall = similarity.amax(0)[reference.counts].mean().item()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
