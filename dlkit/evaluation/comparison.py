"""Which rows of a report may be held against each other, and what may be claimed from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlkit import metrics

UNDERTRAINED = 0.12  # BLEU below which a teacher has learnt too little for a ratio to it to mean anything
COLUMNS = {
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "bertscore": "BERTScore",
    "dist_1": "dist-1",
    "self_bleu": "self-BLEU",
    "div_4": "div-4",
    "exact_validity": "exact validity",
    "distinct_valid": "distinct valid",
    "copy_rate": "copies",
    "gen_ppl": "gen. perplexity",
    "ngram_divergence": "n-gram divergence",
    "entropy": "entropy",
    "distinct_n": "distinct-n",
    "seq_rep_n": "rep-n",
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


def compares_samples(metric: str) -> bool:
    """Whether a metric is about the samples of a source together, so that it depends on how many there are.

    Distinct-valid is one of them: with a single sample it would be exact validity by another name.
    """
    return metric == "distinct_valid" or (metric in metrics.names() and "samples>=2" in metrics.get(metric).needs)


def peers(models: Sequence[Model], metric: str) -> list[Model]:
    """The rows that a metric can be compared between.

    All that have it; of a metric that compares samples, those with as many samples as the student with fewest calls
    (as the first row, where there is no student).
    """
    scored = [row for row in models if metric in row["metrics"]]
    if not scored or not compares_samples(metric):
        return scored
    students = [row for row in scored if row["kind"] == "student"]
    count = min(students, key=lambda row: row["nfe"], default=scored[0])["num_samples"]
    return [row for row in scored if row["num_samples"] == count]


def best(models: Sequence[Model], metric: str) -> list[Model]:
    """The best rows of a metric among its :func:`peers`; none if all are equal or the better direction is unknown."""
    rows = peers(models, metric)
    values = {row["metrics"][metric] for row in rows}
    if len(values) < 2 or metric not in metrics.names():
        return []
    top = max(values) if metrics.get(metric).higher_is_better else min(values)
    return [row for row in rows if row["metrics"][metric] == top]
