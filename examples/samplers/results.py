"""Turn the rows of `measure.py` into docs/results/teacher-samplers.{json,md} and a picture.

python examples/samplers/results.py --rows "demo teacher=runs/samplers-demo" --rows "QQP teacher=runs/samplers-qqp" \
    --notes examples/samplers/notes.md --out docs/results --picture docs/img/teacher-samplers.svg
"""

import argparse
from pathlib import Path
from typing import Any

from dlkit.evaluation.charts import MARKS, Series, line_chart
from dlkit.evaluation.markup import join
from dlkit.evaluation.picture import picture
from dlkit.evaluation.report import markdown_table, read_report
from dlkit.files import write_json, write_text

QUALITY, DIVERSITY = ("exact_validity", "bleu"), ("distinct_valid", "div_4")
TITLES = {
    "exact_validity": "exact validity",
    "bleu": "BLEU",
    "distinct_valid": "distinct valid (S = 4)",
    "div_4": "div-4",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", action="append", required=True, metavar="TITLE=FOLDER")
    parser.add_argument("--notes", type=Path, required=True, help="Markdown that stands above the tables")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    args = parser.parse_args()
    studies = dict(study(text) for text in args.rows)
    write_json(args.out / "teacher-samplers.json", studies)
    text = args.notes.read_text(encoding="utf-8")
    for title, reports in studies.items():
        text += f"\n## {title[0].upper() + title[1:]}\n\n{markdown_table([row(report) for report in reports])}"
    write_text(args.out / "teacher-samplers.md", text)
    write_text(args.picture, picture(join(*(figure for one in studies.items() for figure in figures(*one)))))


def study(text: str) -> tuple[str, list[dict[str, Any]]]:
    """The title and the reports of a folder, in the order of samplers and steps."""
    title, _, folder = text.partition("=")
    reports = [read_report(file) for file in Path(folder).glob("*.json")]
    return title, sorted(reports, key=lambda report: (line_of(report), report["models"][0]["sampler"]["steps"]))


def line_of(report: dict[str, Any]) -> tuple[str, bool]:
    """The line of the figure that a report is a point of."""
    sampler = report["models"][0]["sampler"]
    return sampler["name"], sampler["rounding"]


def row(report: dict[str, Any]) -> dict[str, Any]:
    (model,) = report["models"]
    name, rounding = line_of(report)
    return {**model, "name": f"{name} {model['sampler']['steps']}{', rounding' if rounding else ''}"}


def figures(title: str, reports: list[dict[str, Any]]) -> list[Any]:
    """Quality and diversity against network calls: a mark for each sampler, rounding in the other colour.

    Diversity depends on the number of samples, so it is drawn only for the rows with the most.
    """
    metrics = reports[0]["models"][0]["metrics"]
    shown = [next(name for name in names if name in metrics) for names in (QUALITY, DIVERSITY)]
    lines = sorted({line_of(report) for report in reports})
    names = sorted({name for name, _ in lines})
    most = max(report["models"][0]["num_samples"] for report in reports)
    drawn = []
    for metric in shown:
        series = []
        for name, rounding in lines:
            models = [report["models"][0] for report in reports if line_of(report) == (name, rounding)]
            if metric in DIVERSITY:
                models = [model for model in models if model["num_samples"] == most]
            points = [(m["nfe"], m["metrics"][metric], m["standard_error"].get(metric, 0.0)) for m in models]
            label, role = ("", "student") if rounding else (name, "teacher")
            series.append(Series(label, points, role, MARKS[names.index(name)]))
        head = f"{title}: {TITLES[metric]}"
        drawn.append(line_chart(head, series, x_label="network calls", log_x=True, size=(460, 330)))
    return drawn


if __name__ == "__main__":
    main()
