"""Turn what `measure.sh` made into docs/results/teachers.{json,md} and a picture.

python examples/teachers/results.py --runs runs/teachers --notes examples/teachers/notes.md --out docs/results \
    --picture docs/img/teachers.svg
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.evaluation.charts import Series, line_chart
from dlkit.evaluation.comparison import COLUMNS
from dlkit.evaluation.markup import Markup
from dlkit.evaluation.picture import picture
from dlkit.evaluation.report import markdown, read_report
from dlkit.files import read_json, write_json, write_text

Report = dict[str, Any]
METRICS = ("gen_ppl", "ngram_divergence", "entropy", "distinct_n", "dist_1", "seq_rep_n")
DRAWN = "ngram_divergence"
MODELS = {
    "flm": ("FLM, Euler", "teacher", "circle"),
    "plaid": ("Plaid, its sampler", "teacher", "square"),
    "psd": ("FLM by psd", "student", "circle"),
    "sid_flm": ("FLM by score distillation", "student", "triangle"),
    "sid_plaid": ("Plaid by score distillation", "student", "square"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--notes", type=Path, required=True, help="Markdown that stands above the tables")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    args = parser.parse_args()
    rows = {name: by_steps(args.runs, name) for name in MODELS}
    real = read_json(args.runs / "text.json")
    timing = read_json(args.runs / "timing.json")
    runs = {name: ended(args.runs / name / "log.jsonl") for name in MODELS if (args.runs / name / "log.jsonl").exists()}
    text = args.notes.read_text(encoding="utf-8")
    text += "\n## Every row\n\n" + table(rows, real, timing["models"])
    text += "\n## Training\n\n" + markdown(
        ["", "updates", "seconds"], [[MODELS[n][0], *run] for n, run in runs.items()]
    )
    reports = {f"{name}-{k}": report for name, found in rows.items() for k, report in found}
    write_json(args.out / "teachers.json", {"reports": reports, "text": real, "timing": timing, "training": runs})
    write_text(args.out / "teachers.md", text)
    write_text(args.picture, picture(curves(rows, real)))


def by_steps(runs: Path, name: str) -> list[tuple[int, Report]]:
    """The reports of a model, by its steps."""
    found = {file.stem.removeprefix(f"{name}-"): file for file in runs.glob(f"{name}-*.json")}
    return [(int(k), read_report(found[k])) for k in sorted((k for k in found if k.isdigit()), key=int)]


def ended(log: Path) -> tuple[str, str]:
    """Updates and seconds of a run."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    last = next(line for line in reversed(lines) if "seconds" in line)
    return str(last["step"]), f"{last['seconds']:.0f}"


def table(rows: dict[str, Sequence[tuple[int, Report]]], real: dict[str, Any], timing: dict[str, Any]) -> str:
    """Each model at each number of steps, and real texts."""
    lines = [["real texts", "", *(shown(real["metrics"], name) for name in METRICS), ""]]
    for name, found in rows.items():
        for k, report in found:
            model = report["models"][0]
            cells = [shown(model["metrics"], metric) for metric in METRICS]
            lines.append([MODELS[name][0], str(k), *cells, f"{1000 * timing[name][str(k)]['median']:.0f}"])
    return markdown(["", "steps", *(COLUMNS[name] for name in METRICS), "ms a text"], lines)


def shown(metrics: dict[str, float], name: str) -> str:
    return f"{metrics[name]:.1f}" if name == "gen_ppl" else f"{metrics[name]:.3f}"


def curves(rows: dict[str, Sequence[tuple[int, Report]]], real: dict[str, Any]) -> Markup:
    """How far texts are from held-out ones, against steps."""
    series = [
        Series(label, [(k, report["models"][0]["metrics"][DRAWN], 0.0) for k, report in rows[name]], role, mark)
        for name, (label, role, mark) in MODELS.items()
        if rows[name]
    ]
    references = [("real texts", real["metrics"][DRAWN])]
    title = "Divergence of n-grams from held-out texts, against network calls"
    return line_chart(title, series, x_label="steps", log_x=True, references=references, size=(760, 480))


if __name__ == "__main__":
    main()
