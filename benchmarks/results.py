"""The runs that are kept, ``docs/results/performance.json``, and the page made of them.

``python -m benchmarks.results RUN.json ...`` keeps runs of the benchmarks or of :mod:`benchmarks.scaling`, one of each
for a device; without files the page is made anew.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from dlkit.errors import UserError
from dlkit.files import read_json, write_json, write_text

STORE = Path(__file__).parents[1] / "docs/results/performance.json"

MADE_BY = {"device", "date", "command", "versions", "threads"}
RUN, CURVES = MADE_BY | {"rows", "limits", "seconds"}, MADE_BY | {"base", "curves"}
"""What a run of the benchmarks and one of the curves must hold."""

Run = dict[str, Any]
Row = dict[str, Any]

INTRODUCTION = """# Performance

Every row sets dlkit beside a reference: what a competent person would first write in plain eager PyTorch, or the
program named in the row. [How to run, read and add one](../performance.md).

- Both sides run in one process, in turns: reference, ours, reference, ours. The ratio is that of the median times of 7
  to 51 rounds (3 where a round takes over 5 s); in brackets the quartiles of the ratios of single rounds. Garbage is
  collected between rounds and not within.
- **Bars are checked**: a run fails where a ratio misses its bar. A row that misses is measured once more, and then all
  its rounds count. Bars of bf16 hold on processors that multiply bf16 (avx512_bf16, AMX), and no bar on a GPU; one that
  does not hold stands in brackets.
- "Limit" is the share of what the machine can do: the time that the row's least bytes (read and written) or operations
  take at the rates below, measured in the same process, over the time it took. Both are counted from shapes.
- "Before" is the ratio in the run that was kept before.
"""


def stored() -> dict[str, dict[str, Run]]:
    """The kept runs and curves, each by the device's name."""
    return read_json(STORE) if STORE.is_file() else {"runs": {}, "scaling": {}}


def write_run(path: str | Path, run: Run) -> None:
    """Write a run as JSON, its numbers to six digits."""
    write_json(path, _six_digits(run))


def _six_digits(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _six_digits(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_six_digits(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def kept(store: dict[str, dict[str, Run]], run: Run, name: str = "the run") -> dict[str, dict[str, Run]]:
    """The store with a run in it, in place of the one of the same device, whose ratios it remembers.

    Raises:
        UserError: the run is quick, or not whole, or no run.
    """
    if not isinstance(run, dict) or not (run.keys() >= RUN or run.keys() >= CURVES):
        raise UserError(f"{name} is no run of the benchmarks; give what `make bench` or `make bench-scaling` wrote")
    if "curves" in run:
        return {**store, "scaling": {**store["scaling"], run["device"]: run}}
    if run.get("quick") or not run.get("complete"):
        raise UserError(f"{name} is {'quick' if run.get('quick') else 'not whole'}; keep a run of all of `make bench`")
    old = store["runs"].get(run["device"])
    is_same = old and {**old, "before": None} == {**run, "before": None}  # a run kept again is not before itself
    before = old and (old.get("before") if is_same else {"date": old["date"], "ratios": ratios(old)})
    return {**store, "runs": {**store["runs"], run["device"]: {**run, "before": before}}}


def ratios(run: Run | None) -> dict[str, float]:
    """The ratio of each row."""
    return {row["name"]: row["ratio"] for row in (run or {}).get("rows", [])}


def page(store: dict[str, dict[str, Run]]) -> str:
    """The page of all that is kept."""
    parts = [INTRODUCTION, *map(section, store["runs"].values()), *map(scaling_section, store["scaling"].values())]
    return "\n".join(parts)


def section(run: Run) -> str:
    """The table of one device."""
    limits = run["limits"]
    rates = ", ".join(
        [f"copy {limits['copy'] / 1e9:.0f} GB/s"]
        + [f"{dtype} matrix products {limits[dtype] / 1e9:.0f} GFLOP/s" for dtype in ("fp32", "bf16")]
    )
    before = run.get("before") or {"date": "", "ratios": {}}
    since = f" Before: {before['date']}." if before["date"] else ""
    missed = sum(row["missed"] for row in run["rows"])
    verdict = f"{missed} of {len(run['rows'])} rows miss their bar." if missed else "No row misses its bar."
    lines = [
        f"## {run['device']}",
        "",
        f"`{run['command']}`, {run['date']}, {run['seconds'] / 60:.1f} minutes, {made_with(run)}. Measured limits:"
        f" {rates}. {verdict}{since}",
        "",
        "| row | ours | reference | ratio | bar | limit | before | note |",
        "|---|---|---|---|---|---|---|---|",
        *(line(row, before["ratios"].get(row["name"])) for row in run["rows"]),
        "",
    ]
    return "\n".join(lines)


def made_with(run: Run) -> str:
    return ", ".join([f"{name} {version}" for name, version in run["versions"].items()] + [f"{run['threads']} threads"])


def line(row: Row, before: float | None) -> str:
    """A row of the table."""
    spread = f" ({number(row['low'])}–{number(row['high'])})" if "low" in row else ""
    ratio = f"{number(row['ratio'])}{spread}"
    share = f"{row['limit_share']:.0%}" if row.get("limit_share") else "-"
    then = "-" if before is None else number(before)
    cells = [row["name"], amount(row, "ours"), amount(row, "reference"), ratio, bar_of(row), share, then, row["note"]]
    return f"| {' | '.join(cells)} |"


def bar_of(row: Row) -> str:
    """What the ratio must be, and whether it is."""
    if row["bar"] is None:
        return "-"
    told = f"{'≤' if row.get('lower') else '≥'} {number(row['bar'])}"
    return f"{told}, **missed**" if row["missed"] else told if row["held"] else f"({told})"


def amount(row: Row, side: str) -> str:
    """A number of the row with its unit; times in milliseconds."""
    return f"{number(row[side] * 1e3)} ms" if row["unit"] == "s" else f"{number(row[side])} {row['unit']}"


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def scaling_section(run: Run) -> str:
    """The exponents of one device."""
    base = run["base"]
    where = f"batch {base['batch']}, length {base['length']}, {base['vocab']:,} tokens, {base['model']}"
    lines = [
        f"## Cost as work grows: {run['device']}",
        "",
        f"`{run['command']}`, {run['date']}, {made_with(run)}. One axis at a time from {where}. The exponent k is"
        " that of cost = c · size^k, fitted to the shortest times of three rounds; points predicted to take over 5 s"
        " are left out and named. A model's size is the number of weights in its layers.",
        "",
        "| what | axis | exponent | size: time | left out (predicted) |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(cells_of(curve))} |" for curve in run["curves"]),
        "",
    ]
    return "\n".join(lines)


def cells_of(curve: dict[str, Any]) -> list[str]:
    measured = ", ".join(f"{size_of(size)}: {number(cost * 1e3)} ms" for size, cost in curve["measured"])
    skipped = ", ".join(f"{size_of(size)} ({cost:.0f} s)" for size, cost in curve["skipped"]) or "-"
    return [curve["item"], curve["axis"], f"{curve['exponent']:.2f}", measured, skipped]


def size_of(size: float) -> str:
    return f"{size / 1e6:.3g} M" if size >= 1e5 else f"{size:,.0f}"


def curve_line(curve: dict[str, Any]) -> str:
    """What a terminal shows of a curve."""
    item, axis, power, measured, skipped = cells_of(curve)
    return f"{item}, {axis}: exponent {power}; {measured}" + (f"; left out: {skipped}" if skipped != "-" else "")


def text_table(run: Run, before: Run | None) -> str:
    """What a terminal shows of a run, beside the last kept one of the same device."""
    then = ratios(before)
    lines = [f"{'ratio':>9} {'spread':>15} {'bar':>9} {'limit':>6} {'kept':>9}  row"]
    for row in run["rows"]:
        spread = f"{number(row['low'])}-{number(row['high'])}" if "low" in row else ""
        bar = "" if row["bar"] is None else f"{'<=' if row.get('lower') else '>='} {number(row['bar'])}"
        share = f"{row['limit_share']:.0%}" if row.get("limit_share") else ""
        last = number(then[row["name"]]) if row["name"] in then else ""
        name = f"{row['name']}  MISSED" if row["missed"] else row["name"]
        lines.append(f"{number(row['ratio']):>9} {spread:>15} {bar:>9} {share:>6} {last:>9}  {name}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Keep runs and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description="Keep runs and make their page.")
    parser.add_argument("runs", nargs="*", type=Path, help="JSON of `make bench` or `make bench-scaling`")
    store = stored()
    for path in parser.parse_args(arguments).runs:
        store = kept(store, read_json(path), str(path))
    text = page(store)
    write_json(STORE, store)
    write_text(STORE.with_suffix(".md"), text)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)
