"""The report of an evaluation: report.json for programs, report.html for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlkit.errors import UserError
from dlkit.evaluation.comparison import COLUMNS, Model, columns
from dlkit.evaluation.evaluate import Row
from dlkit.evaluation.page import page
from dlkit.evaluation.protocol import Protocol
from dlkit.files import read_json, write_json, write_text

KEYS = ("protocol", "models", "speedup")
EXTRAS = ("title", "notes", "targets", "samples", "emergence", "curves", "timing", "commands")


def report_dict(
    protocol: Protocol, rows: Sequence[Row], speedup: Mapping[str, Any] | None = None, **extras: Any
) -> dict[str, Any]:
    """The content of report.json.

    Args:
        protocol: how all rows were measured.
        rows: the models; at least one.
        speedup: of :func:`dlkit.evaluation.timing.time_models`; empty if nothing was timed.
        extras: any of

            - ``title``; ``notes`` and ``commands``: lists of texts;
            - ``targets``: list of {name, value, bound, holds};
            - ``samples``: list of {source, references, teacher: [text], student: [text]}, and where right outputs are
              known {teacher_valid: [bool], student_valid: [bool]};
            - ``emergence``: {source, teacher: [{call, t, text}], student: [{call, t, text}]};
            - ``curves``: lines of the run's log;
            - ``timing``: {seconds, spread, n_sources, rounds, full_steps} of ``time_models``.

    Raises:
        UserError: there are no rows, or an extra is unknown.
    """
    unknown = sorted(extras.keys() - set(EXTRAS))
    if unknown:
        raise UserError(f"a report has no part {unknown[0]!r}; known: {', '.join(EXTRAS)}")
    if not rows:
        raise UserError("a report needs at least one evaluated model")
    given = {name: value for name, value in extras.items() if value}
    models = [row.to_dict() for row in rows]
    return {"protocol": protocol.model_dump(mode="json"), "models": models, "speedup": dict(speedup or {}), **given}


def write_report(folder: str | Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` and ``report.html`` into a folder. Raises ``UserError`` where it cannot be written."""
    write_json(Path(folder) / "report.json", report)
    write_text(Path(folder) / "report.html", page(report))


def read_report(path: str | Path) -> dict[str, Any]:
    """Read a report.json, or the one in a folder.

    Raises:
        UserError: it is missing, is not JSON or is no report.
    """
    path = Path(path)
    file = path / "report.json" if path.is_dir() else path
    report = read_json(file)
    lacking = [key for key in KEYS if not isinstance(report, dict) or key not in report]
    if lacking:
        raise UserError(f"{file} is no report: it lacks {', '.join(lacking)}; give the report.json of an evaluation")
    return report


def markdown_table(rows: Sequence[Row] | Sequence[Model]) -> str:
    """The rows as a table for a page of documentation: value ± standard error."""
    models = [row.to_dict() if isinstance(row, Row) else row for row in rows]
    names = columns(models)
    heads = ["model", "calls", "sources × samples", *(COLUMNS.get(name, name) for name in names), "seconds a text"]
    body = []
    for row in models:
        texts = f"{row['n_sources']} × {row['num_samples']}" + (f", MBR {row['mbr']}" if row["mbr"] else "")
        cells = [*(_cell(row, name) for name in names), f"{row['seconds_per_sample']:.2g}"]
        body.append([row["name"].replace("|", "\\|"), str(row["nfe"]), texts, *cells])
    return markdown(heads, body)


def markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of Markdown: names to the left, numbers to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(row: Model, name: str) -> str:
    if name not in row["metrics"]:
        return "–"
    error = row.get("standard_error", {}).get(name)
    return f"{row['metrics'][name]:.3f}" + ("" if error is None else f" ± {error:.3f}")
