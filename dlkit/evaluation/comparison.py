"""Which rows of a report may be held against each other, and what may be claimed from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlkit import metrics

UNDERTRAINED = 0.12  # BLEU below which a teacher has learnt too little for a ratio to it to mean anything
COLUMNS = {
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "dist_1": "dist-1",
    "self_bleu": "self-BLEU",
    "div_4": "div-4",
    "exact_validity": "exact validity",
    "distinct_valid": "distinct valid",
    "copy_rate": "copies",
}
YARDSTICKS = ("perfect_distinct_valid", "collapse_distinct_valid")

Model = dict[str, Any]
"""A row as plain data: an element of ``models`` in report.json."""


@dataclass(frozen=True)
class Comparison:
    """A student beside the best teacher row that was measured in the same way.

    Attributes:
        student, teacher: the rows.
        metric: what quality is here: ``exact_validity`` where the correct outputs are known, else ``bleu``.
    """

    student: Model
    teacher: Model
    metric: str

    @property
    def undertrained(self) -> bool:
        """Whether the teacher is too weak to compare with; a grammar's validity needs no such caution."""
        return self.metric == "bleu" and self.teacher["metrics"]["bleu"] < UNDERTRAINED

    @property
    def kept(self) -> float | None:
        """Quality of the student / quality of the teacher; None if the teacher is undertrained or scores 0."""
        reached, aim = (row["metrics"][self.metric] for row in (self.student, self.teacher))
        return None if self.undertrained or not aim else reached / aim


def compare(models: Sequence[Model]) -> Comparison | None:
    """The student row with the fewest calls against the best teacher row with as many sources, samples and candidates.

    None if there are no two such rows with a metric of quality.
    """
    student = min((row for row in models if row["kind"] == "student"), key=lambda row: row["nfe"], default=None)
    if student is None:
        return None
    for metric in ("exact_validity", "bleu"):
        scored = [row for row in models if metric in row["metrics"] and _alike(row, student)]
        teachers = [row for row in scored if row["kind"] == "teacher"]
        if teachers and metric in student["metrics"]:
            return Comparison(student, max(teachers, key=lambda row: row["metrics"][metric]), metric)
    return None


def _alike(row: Model, other: Model) -> bool:
    return all(row[key] == other[key] for key in ("mbr", "num_samples", "n_sources"))


def columns(models: Sequence[Model]) -> list[str]:
    """The metrics that some row has, the usual ones first; yardsticks are no results and left out."""
    found = dict.fromkeys(name for row in models for name in row["metrics"] if name not in YARDSTICKS)
    return [*(name for name in COLUMNS if name in found), *(name for name in found if name not in COLUMNS)]


def best(models: Sequence[Model], metric: str) -> float | None:
    """The best of the different values of a metric; None if there is but one, or the better direction is unknown."""
    values = {row["metrics"][metric] for row in models if metric in row["metrics"]}
    if len(values) < 2 or metric not in metrics.names():
        return None
    return max(values) if metrics.get(metric).higher_is_better else min(values)
