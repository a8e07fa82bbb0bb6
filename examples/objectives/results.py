"""Turn the rows of `compare.py` into docs/results/objectives.{json,md} and a picture.

python examples/objectives/results.py --rows runs/objectives --notes examples/objectives/notes.md \
    --out docs/results --picture docs/img/objectives.svg
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from dlkit.evaluation.charts import Series, line_chart
from dlkit.evaluation.comparison import COLUMNS
from dlkit.evaluation.picture import picture
from dlkit.evaluation.report import markdown
from dlkit.files import write_json, write_text

METRICS = ("exact_validity", "bleu", "distinct_valid", "div_4", "self_bleu", "copy_rate")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--notes", type=Path, required=True, help="Markdown that stands above the tables")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    args = parser.parse_args()
    rows = [json.loads(file.read_text()) for file in sorted(args.rows.glob("*/*/row.json"))]
    write_json(
        args.out / "objectives.json", {"protocol": rows[0]["report"]["protocol"], "rows": [kept(r) for r in rows]}
    )
    arms = {name: chosen([row for row in rows if row["arm"] == name]) for name in sorted({row["arm"] for row in rows})}
    arms = dict(sorted(arms.items(), key=lambda item: -average(item[1], "distinct_valid")))
    text = args.notes.read_text(encoding="utf-8")
    text += "\n## Every arm at its better rate\n\n" + table(arms)
    text += "\n## Both rates at the first seed\n\n" + rates(rows)
    write_text(args.out / "objectives.md", text)
    write_text(args.picture, picture(front(arms)))


def kept(row: Row) -> Row:
    """A row without the protocol, which all share."""
    (model,) = row["report"]["models"]
    return {**{key: value for key, value in row.items() if key != "report"}, "model": model}


def chosen(rows: list[Row]) -> list[Row]:
    """The rows of an arm at the rate that validation preferred at the first seed."""
    first = min(row["seed"] for row in rows)
    best = max((row for row in rows if row["seed"] == first), key=lambda row: row["best"]["score"] or 0.0)
    return sorted((row for row in rows if row["rate"] == best["rate"]), key=lambda row: row["seed"])


def metric(row: Row, name: str) -> float:
    return row["report"]["models"][0]["metrics"][name]


def average(rows: list[Row], name: str) -> float:
    return mean(metric(row, name) for row in rows)


def table(arms: dict[str, list[Row]]) -> str:
    """Means over seeds with their ranges."""
    head = ["arm", "rate", "updates", "seeds", *(COLUMNS[name] for name in METRICS)]
    cell: Callable[[list[Row], str], str] = lambda rows, name: (  # noqa: E731
        f"{average(rows, name):.3f} ({min(metric(r, name) for r in rows):.2f}–{max(metric(r, name) for r in rows):.2f})"
    )
    body = [
        [name, f"{rows[0]['rate']:g}", str(rows[0]["updates"]), str(len(rows)), *(cell(rows, m) for m in METRICS)]
        for name, rows in arms.items()
    ]
    return markdown(head, body)


def rates(rows: list[Row]) -> str:
    """What the choice of the rate was made by: the score on the validation split."""
    first = min(row["seed"] for row in rows)
    found = sorted((row for row in rows if row["seed"] == first), key=lambda row: (row["arm"], -row["rate"]))
    head = ["arm", "rate", "best update", "distinct valid, validation", *(COLUMNS[name] for name in METRICS[:3])]
    body = [
        [r["arm"], f"{r['rate']:g}", str(r["best"]["step"]), f"{r['best']['score']:.3f}"]
        + [f"{metric(r, name):.3f}" for name in METRICS[:3]]
        for r in found
    ]
    return markdown(head, body)


def front(arms: dict[str, list[Row]]) -> Any:
    """Quality against diversity, a mark for each arm: the means over seeds."""
    series = []
    for name, rows in arms.items():
        point = (average(rows, "distinct_valid"), average(rows, "exact_validity"), 0.0)
        series.append(Series(name, [point], "student" if "adv" in name else "teacher", "circle"))
    return line_chart(
        "Exact validity against distinct valid", series, x_label="distinct valid (S = 10)", size=(760, 480)
    )


if __name__ == "__main__":
    main()
