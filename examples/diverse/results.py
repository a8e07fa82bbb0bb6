"""Turn what `measure.sh` made into docs/results/diverse.{json,md} and a picture.

python examples/diverse/results.py --runs runs/diverse --notes examples/diverse/notes.md --out docs/results \
    --picture docs/img/diverse.svg
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dlkit.evaluation.charts import Series, line_chart
from dlkit.evaluation.comparison import COLUMNS
from dlkit.evaluation.markup import Markup
from dlkit.evaluation.picture import picture
from dlkit.evaluation.report import markdown, read_report
from dlkit.files import read_json, write_json, write_text

Report = dict[str, Any]
X, Y = "distinct_valid", "exact_validity"
TARGETS = (("exact_validity", 10), ("bleu", 10), ("distinct_valid", 10), ("div_4", 3), ("div_4", 10), ("copy_rate", 10))
METRICS = ("exact_validity", "bleu", "distinct_valid", "div_4", "copy_rate")
RECIPES = {
    "diverse-0": "diverse",
    "all-noise": "diverse, all noise, half as long",
    "demo": "demo",
    "dmd": "regression, then DMD",
    "sid": "SiD 1.2 and adversary",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--notes", type=Path, required=True, help="Markdown that stands above the tables")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    args = parser.parse_args()
    files = sorted(args.runs.glob("*.json"))
    reports = {file.stem: read_report(file) for file in files if not file.stem.startswith("codes-")}
    codes = {file.stem.removeprefix("codes-"): read_json(file) for file in files if file.stem.startswith("codes-")}
    runs = {run: validations(args.runs / run) for run in RECIPES if (args.runs / run / "log.jsonl").exists()}
    seeds = sorted({name.split("-")[1] for name in reports if name.startswith("diverse-")})
    text = args.notes.read_text(encoding="utf-8")
    text += "\n## The preset's students on test\n\n" + shares(reports, seeds)
    text += "\n## All sixty-four codes\n\n" + every_code(reports["teacher-s64"], codes)
    text += "\n## The ends of the curves\n\n" + ends(runs, reports)
    write_json(args.out / "diverse.json", {"reports": reports, "codes": codes, "validations": runs})
    write_text(args.out / "diverse.md", text)
    write_text(args.picture, picture(front(runs, reports)))


def validations(run: Path) -> list[dict[str, Any]]:
    """The validations of a run that know both axes of the front."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == "valid" and {X, Y} <= line.keys()]


def value(report: Report, name: str) -> float:
    return report["models"][0]["metrics"][name]


def shares(reports: dict[str, Report], seeds: Sequence[str]) -> str:
    """Every target: the teacher, each seed, their mean and what share of the teacher it is."""
    head, lines = ["metric", "teacher", *(f"seed {seed}" for seed in seeds), "mean", "share of the teacher"], []
    for name, samples in TARGETS:
        teacher = value(reports[f"teacher-s{samples}"], name)
        students = [value(reports[f"diverse-{seed}-s{samples}"], name) for seed in seeds]
        cells = [f"{number:.3f}" for number in (teacher, *students, mean(students))]
        lines.append([f"{COLUMNS[name]}, S = {samples}", *cells, f"{mean(students) / teacher:.1%}"])
    return markdown(head, lines)


def every_code(teacher: Report, codes: dict[str, dict[str, Any]]) -> str:
    """What a student writes of each source by all its codes, and what ten of them give."""
    head = ["", "right of 64", "different right of 64", "distinct valid, S = 10", "by independent draws"]
    lines = [["teacher", f"{64 * value(teacher, Y):.1f}", f"{64 * value(teacher, X):.1f}", "", ""]]
    for seed, found in codes.items():
        shown = f"{found['codes'] * found['right']:.1f}", f"{found['different_right']:.1f}"
        tens = f"{found['without_replacement']:.3f}", f"{found['independent']:.3f}"
        lines.append([f"student, seed {seed}", *shown, *tens])
    return markdown(head, lines)


def ends(runs: dict[str, list[dict[str, Any]]], reports: dict[str, Report]) -> str:
    """The best validation of each recipe, and the teacher's samplers."""
    head, lines = ["", "updates", "seconds", *(COLUMNS[name] for name in METRICS)], []
    for run, validated in runs.items():
        best = max(validated, key=lambda line: line[X])
        updates = sum(max(v["step"] for v in validated if v["stage"] == k) for k in range(best["stage"])) + best["step"]
        lines.append([RECIPES[run], str(updates), f"{best['seconds']:.0f}", *(f"{best[name]:.3f}" for name in METRICS)])
    for name, report in teachers(reports):
        lines.append([f"teacher, {name}", "", "", *(f"{value(report, metric):.3f}" for metric in METRICS)])
    return markdown(head, lines)


def teachers(reports: dict[str, Report]) -> list[tuple[str, Report]]:
    """Its samplers on the validation sources, by name and by calls."""
    found = [(name.removeprefix("valid-"), report) for name, report in reports.items() if name.startswith("valid-")]
    split = [(*name.rsplit("-", 1), report) for name, report in found]
    return [(f"{name} {k}", report) for name, k, report in sorted(split, key=lambda item: (item[0], int(item[1])))]


def front(runs: dict[str, list[dict[str, Any]]], reports: dict[str, Report]) -> Markup:
    """Quality against diversity on the validation sources: a curve for each recipe along its run."""
    series = [
        Series(RECIPES[run], [(line[X], line[Y], 0.0) for line in validated], "student", mark)
        for (run, validated), mark in zip(
            runs.items(), ("circle", "square", "triangle", "diamond", "wedge"), strict=False
        )
    ]
    for sampler in ("ancestral", "ddim"):
        rows = [report for name, report in teachers(reports) if name.startswith(f"{sampler} ")]
        series.append(
            Series(f"teacher, {sampler}", [(value(r, X), value(r, Y), 0.0) for r in rows], "teacher", "circle")
        )
    title = "Exact validity against distinct valid (S = 10), along each run"
    return line_chart(title, series, x_label="distinct valid", size=(760, 480))


if __name__ == "__main__":
    main()
