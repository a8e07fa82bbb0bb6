"""How often an output is right, where right answers can be enumerated."""

from typing import ClassVar

from dlkit.metrics import register
from dlkit.metrics._base import Case, SourceMetric
from dlkit.metrics._grammar import correct_samples


@register("exact_validity", description="share of samples that the grammar accepts; a copy of the source is wrong")
class ExactValidity(SourceMetric):
    """Samples that are correct outputs of their source / samples, in [0, 1].

    Compared word for word after white space is normalised; a copy of the source counts as wrong.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"grammar"})

    def of_source(self, case: Case) -> float:
        return len(correct_samples(case)) / len(case.hypotheses)
