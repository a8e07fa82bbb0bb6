"""The runs that are kept, and their page."""

from pathlib import Path
from typing import Any

from dlkit.files import read_json, write_json

STORE = Path(__file__).parents[1] / "docs/results/performance.json"


def stored() -> dict[str, Any]:
    """The kept run of each device, by the device's name."""
    return read_json(STORE)["runs"] if STORE.is_file() else {}


def write_run(path: str | Path, run: dict[str, Any]) -> None:
    """Write a run as JSON."""
    write_json(path, run)


def text_table(run: dict[str, Any], before: dict[str, Any] | None) -> str:
    """What a terminal shows of a run, beside the last kept one of the same device."""
    then = {row["name"]: row["ratio"] for row in (before or {}).get("rows", [])}
    lines = [f"{'ratio':>8} {'bar':>6} {'last':>6}  row"]
    for row in run["rows"]:
        bar = "-" if row["bar"] is None else f"{row['bar']:.4g}"
        last = f"{then[row['name']]:.4g}" if row["name"] in then else "-"
        lines.append(f"{row['ratio']:>8.4g} {bar:>6} {last:>6}  {row['name']}{'  MISSED' * row['missed']}")
    return "\n".join(lines)
