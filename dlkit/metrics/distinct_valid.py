"""How many different right outputs a model finds."""

from typing import ClassVar

from dlkit.errors import UserError
from dlkit.metrics import register
from dlkit.metrics._base import Case, Cases, SourceMetric, mean
from dlkit.metrics._grammar import correct_samples


@register("distinct_valid", description="distinct correct samples of a source / samples: quality and variety in one")
class DistinctValid(SourceMetric):
    """Mean over sources of |set of correct, non-copied samples| / S, in [0, 1].

    Wrong outputs never raise it, unlike a plain count of distinct outputs. Even a perfect sampler repeats itself, so
    read it beside :meth:`perfect` and :func:`total_collapse`.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"grammar"})

    def of_source(self, case: Case) -> float:
        return len(set(correct_samples(case))) / len(case.hypotheses)

    def perfect(self, cases: Cases) -> float:
        """What a sampler uniform over the correct outputs is expected to score on these sources.

        Raises:
            UserError: there is no grammar, or a source has no correct output.
        """
        self.require(cases)
        return mean([perfect_distinct_valid(len(case.correct), cases.num_samples) for case in cases.each()])


def perfect_distinct_valid(n_correct: int, num_samples: int) -> float:
    """Expected score of S independent uniform draws from n correct outputs: ``n/S * (1 - (1 - 1/n)^S)``.

    Each output is missed by all draws with probability (1 - 1/n)^S; the expected number found follows by linearity.

    Raises:
        UserError: a count is below 1.
    """
    if n_correct < 1 or num_samples < 1:
        raise UserError(f"{n_correct} correct outputs and {num_samples} samples: both must be at least 1")
    return n_correct / num_samples * (1 - (1 - 1 / n_correct) ** num_samples)


def total_collapse(num_samples: int) -> float:
    """Score of a model that gives one correct output S times: ``1/S``. Raises ``UserError`` if S is below 1."""
    return perfect_distinct_valid(1, num_samples)
