"""A metric."""

from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric


@register("starter", description="share of samples that end with a question mark")
class Starter(SourceMetric):
    """Samples that end with ``?`` / samples, in [0, 1]."""

    higher_is_better: ClassVar[bool] = True

    def of_source(self, case: Case) -> float:
        return sum(text.rstrip().endswith("?") for text in case.hypotheses) / len(case.hypotheses)
