"""How often a model repeats its input."""

from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric
from dlkit.metrics._grammar import normalised


@register("copy_rate", description="share of samples that repeat the source")
class CopyRate(SourceMetric):
    """Samples equal to their source / samples, in [0, 1]; white space and case are disregarded."""

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"sources"})

    def of_source(self, case: Case) -> float:
        source = normalised(case.source).lower()
        copies = [text for text in case.hypotheses if normalised(text).lower() == source]
        return len(copies) / len(case.hypotheses)
