"""Turn the reports of `evaluate.sh` into docs/results/qqp.{json,md}.

python examples/qqp/results.py runs/qqp-eval/*.json --teacher runs/qqp-teacher --student runs/qqp-student \
    --diverse runs/qqp-diverse --data runs/qqp-data --notes examples/qqp/notes.md --out docs/results
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.data.pairs import read_split
from dlkit.evaluation.comparison import UNDERTRAINED
from dlkit.evaluation.report import markdown_table, read_report
from dlkit.files import write_json, write_text
from dlkit.generator import load_student, load_teacher

SHOWN = {"name": "ddim", "steps": 10, "rounding": True}  # how the teacher wrote the sampled texts
ROUNDS = ("source", "reference", "teacher", "teacher asked once", "student", "student of `diverse`")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--diverse", type=Path, required=True, help="the student of the Recipe of that name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--notes", type=Path, required=True, help="Markdown that stands above the tables")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    reports = {path.stem: read_report(path) for path in sorted(args.reports, key=_natural)}
    samples = first_ten(args.teacher, (args.student, args.diverse), args.data)
    write_json(args.out / "qqp.json", {"reports": reports, "samples": samples})
    write_text(args.out / "qqp.md", page(args.notes.read_text(encoding="utf-8"), reports, samples))


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def first_ten(teacher: Path, students: Sequence[Path], data: Path) -> list[dict[str, str]]:
    """The first ten test sources with the first sample of each model: nothing is chosen."""
    pairs = read_split(data, "test")[:10]
    sources = [pair.src for pair in pairs]
    source = load_teacher(teacher)
    written = (
        source.generate(sources, sampler=SHOWN),
        source.generate(sources, sampler="ddim", steps=1),
        *(load_student(student).generate(sources) for student in students),
    )
    texts = zip(
        sources, (pair.refs[0] for pair in pairs), *([text for (text,) in rows] for rows in written), strict=True
    )
    return [dict(zip(ROUNDS, row, strict=True)) for row in texts]


def page(notes: str, reports: dict[str, Any], samples: list[dict[str, str]]) -> str:
    text = notes
    for split in ("test", "test_unseen"):
        found = {name: report for name, report in reports.items() if report["protocol"]["data"]["split"] == split}
        rows = [{**row, "name": name} for name, report in found.items() for row in report["models"]]
        if rows:
            text += f"\n## Split `{split}`\n\n{verdict(rows)}{markdown_table(rows)}"
    text += f"\n## The first ten test sources, uncurated (teacher: DDIM {SHOWN['steps']}, rounded)\n\n"
    text += f"| {' | '.join(ROUNDS)} |\n|{'---|' * len(ROUNDS)}\n"
    return text + "".join(
        f"| {' | '.join(row[key].replace('|', chr(92) + '|') for key in ROUNDS)} |\n" for row in samples
    )


def verdict(rows: list[dict[str, Any]]) -> str:
    """What a ratio of student to teacher may claim here."""
    whole = max(row["n_sources"] for row in rows)
    plain = [row for row in rows if not row["mbr"] and row["n_sources"] == whole]
    if {row["kind"] for row in plain} != {"teacher", "student"}:
        return "Rows of one of the two models are missing, so there is nothing to compare.\n\n"
    best = max(row["metrics"]["bleu"] for row in plain if row["kind"] == "teacher")
    if best < UNDERTRAINED:
        return (
            f"**undertrained teacher**: its best BLEU is {best:.3f}, below {UNDERTRAINED}; no ratio to it is given.\n\n"
        )
    student = max(row["metrics"]["bleu"] for row in plain if row["kind"] == "student" and row["nfe"] == 1)
    return f"One-step student: {student / best:.1%} of the teacher's best BLEU without MBR.\n\n"


if __name__ == "__main__":
    main()
