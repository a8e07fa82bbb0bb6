"""The report's training curves: every logged number of a run over its steps."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dlkit.evaluation.charts import Series, line_chart
from dlkit.evaluation.markup import Markup, join, tag

MOST_POINTS = 150
TIME_BIN = re.compile(r"t\d\.\d\d-\d\.\d\d$")  # losses by quarter of time: for a log, too many for a page
NOT_CURVES = frozenset({"step", "stage", "seconds", "kind"})
SHARES = frozenset({"copy", "empty", "repetition", "unique"}) | {
    "bleu",
    "copy_rate",
    "dist_1",
    "distinct_n",
    "distinct_valid",
    "div_4",
    "exact_validity",
    "ngram_divergence",
    "rouge_l",
    "sacrebleu",
    "self_bleu",
    "seq_rep_n",
}

Line = Mapping[str, Any]


def curves(lines: Sequence[Line]) -> Markup | None:
    """Losses and health of the text as small multiples; dotted lines part the stages. None if nothing was logged."""
    starts = _stage_starts(lines)
    parts = [
        _group(title, [line for line in lines if line["kind"] in kinds], starts)
        for title, kinds in (("Losses", ("fit", "distill")), ("Validation", ("valid",)))
    ]
    shown = [part for part in parts if part is not None]
    return join(*shown) if shown else None


def _group(title: str, lines: Sequence[Line], starts: Mapping[int, int]) -> Markup | None:
    names = [name for name in dict.fromkeys(name for line in lines for name in line) if name not in NOT_CURVES]
    drawn = []
    for name in names:
        marked = [line for line in lines if _is_number(line.get(name)) and not TIME_BIN.search(name)]
        points = [(starts[line.get("stage", 0)] + line["step"], line[name], 0.0) for line in marked]
        if points:
            drawn.append(_curve(name, points, sorted(starts.values())[1:]))
    return join(tag("h3", title), tag("div", *drawn, class_="charts small")) if drawn else None


def _curve(name: str, points: list[tuple[float, float, float]], boundaries: list[int]) -> Markup:
    inside = [x for x in boundaries if points[0][0] < x < points[-1][0]]
    series = Series("", thinned(points))
    return line_chart(name, [series], boundaries=inside, size=(260, 170), x_label="step", unit_range=name in SHARES)


def _stage_starts(lines: Sequence[Line]) -> dict[int, int]:
    """The step at which each stage begins on a common axis: steps are counted anew in every stage."""
    lengths: dict[int, int] = {}
    for line in lines:
        stage = line.get("stage", 0)
        lengths[stage] = max(lengths.get(stage, 0), line["step"])
    starts, total = {}, 0
    for stage in sorted(lengths):
        starts[stage] = total
        total += lengths[stage]
    return starts


def thinned(points: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """At most :data:`MOST_POINTS` points: means of consecutive ones."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[k : k + size] for k in range(0, len(points), size)]
    return [(sum(p[0] for p in g) / len(g), sum(p[1] for p in g) / len(g), 0.0) for g in groups]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
