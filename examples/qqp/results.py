"""Turn the reports of `dlkit eval --json` on QQP into docs/results/qqp.{json,md}.

python examples/qqp/results.py runs/qqp-eval/*.json --samples runs/qqp-samples.json --out docs/results
"""

import argparse
from pathlib import Path
from typing import Any

from dlkit.evaluation.report import markdown_table, read_report
from dlkit.files import read_json, write_json, write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--samples", type=Path, help="JSON list of {source, reference, teacher, student}")
    parser.add_argument("--notes", type=Path, help="Markdown that stands above the table")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    reports = {path.stem: read_report(path) for path in args.reports}
    samples = read_json(args.samples) if args.samples else []
    write_json(args.out / "qqp.json", {"reports": reports, "samples": samples})
    notes = args.notes.read_text(encoding="utf-8") if args.notes else "# QQP\n"
    write_text(args.out / "qqp.md", page(notes, reports, samples))


def page(notes: str, reports: dict[str, Any], samples: list[dict[str, Any]]) -> str:
    text = notes
    for split in sorted({report["protocol"]["data"]["split"] for report in reports.values()}):
        rows = [
            {**row, "name": name}
            for name, report in reports.items()
            for row in report["models"]
            if report["protocol"]["data"]["split"] == split
        ]
        text += f"\n## Split `{split}`\n\n{markdown_table(rows)}"
    if samples:
        text += "\n## The first ten test sources, uncurated\n\n"
        text += "| source | reference | teacher | student |\n|---|---|---|---|\n"
        for row in samples:
            cells = [row[key].replace("|", "\\|") for key in ("source", "reference", "teacher", "student")]
            text += f"| {' | '.join(cells)} |\n"
    return text


if __name__ == "__main__":
    main()
