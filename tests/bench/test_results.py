"""Runs that are kept, and their page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import results
from dlkit.errors import UserError


def a_run(device: str = "a machine", ratio: float = 2.0, **changes: Any) -> dict[str, Any]:
    row = {"name": "a row", "unit": "s", "ours": 0.5, "reference": 0.5 * ratio, "ratio": ratio, "low": 1.5, "high": 2.5}
    row |= {"bar": 3.0, "held": True, "missed": ratio < 3.0, "limit_share": 0.25, "note": "a note"}
    return {
        "device": device,
        "command": "pytest benchmarks/",
        "date": "2026-01-01 00:00 UTC",
        "versions": {"dlkit": "0"},
        "threads": 2,
        "seconds": 540.0,
        "limits": {"copy": 33e9, "fp32": 140e9, "bf16": 390e9},
        "complete": True,
        "quick": False,
        "rows": [row],
        **changes,
    }


EMPTY: dict[str, Any] = {"runs": {}, "scaling": {}}


def test_a_run_takes_the_place_of_its_devices_last_and_remembers_its_ratios() -> None:
    store = results.kept(results.kept(results.kept(EMPTY, a_run("other")), a_run(ratio=1.0)), a_run(ratio=4.0))
    assert list(store["runs"]) == ["other", "a machine"]
    assert store["runs"]["a machine"]["before"]["ratios"] == {"a row": 1.0}
    page = results.page(store)
    assert "| a row | 500 ms | 2,000 ms | 4.00 (1.50–2.50) | ≥ 3.00 | 25% | 1.00 | a note |" in page
    assert "| a row | 500 ms | 1,000 ms | 2.00 (1.50–2.50) | ≥ 3.00, **missed** | 25% | - | a note |" in page
    assert "9.0 minutes" in page
    assert "copy 33 GB/s, fp32 matrix products 140 GFLOP/s, bf16 matrix products 390 GFLOP/s" in page


def test_numbers_are_written_to_six_digits(tmp_path: Path) -> None:
    results.write_run(
        tmp_path / "run.json", {"rows": [{"times": [0.06763012499141041, 2.0], "bar": None, "held": True}]}
    )
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "rows": [{"times": [0.0676301, 2.0], "bar": None, "held": True}]
    }


@pytest.mark.parametrize(("changes", "why"), [({"quick": True}, "quick"), ({"complete": False}, "not whole")])
def test_quick_and_partial_runs_are_not_kept(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=f"run.json is {why}"):
        results.kept(EMPTY, a_run(**changes), "run.json")


@pytest.mark.parametrize("content", [[], 3, {}, {"complete": True, "device": "d", "rows": []}, {"curves": []}])
def test_what_is_no_run_is_refused_and_nothing_is_lost(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "STORE", tmp_path / "performance.json")
    (tmp_path / "performance.json").write_text(json.dumps(EMPTY))
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"run.json is no run of the benchmarks; give what `make bench`"):
        results.main([str(tmp_path / "run.json")])
    assert json.loads((tmp_path / "performance.json").read_text()) == EMPTY


def test_a_run_that_is_kept_twice_is_not_before_itself() -> None:
    store = results.kept(results.kept(EMPTY, a_run(ratio=1.0)), a_run(ratio=4.0))
    assert results.kept(store, a_run(ratio=4.0)) == store


def test_runs_are_kept_and_the_page_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "STORE", tmp_path / "performance.json")
    growth = {
        "item": "a thing",
        "axis": "batch",
        "measured": [[2, 0.1], [4, 0.2]],
        "skipped": [[8, 7.0]],
        "exponent": 1.0,
    }
    run = a_run()
    curves = {key: run[key] for key in ("device", "command", "date", "versions", "threads")}
    base = {"batch": 8, "length": 64, "vocab": 8192, "model": "BERT-small"}
    for name, content in {"run": run, "curves": {**curves, "base": base, "curves": [growth]}}.items():
        results.write_run(tmp_path / f"{name}.json", content)
    results.main([str(tmp_path / "run.json"), str(tmp_path / "curves.json")])
    assert json.loads((tmp_path / "performance.json").read_text())["runs"]["a machine"]["rows"] == run["rows"]
    page = (tmp_path / "performance.md").read_text()
    assert "| a thing | batch | 1.00 | 2: 100 ms, 4: 200 ms | 8 (7 s) |" in page
    assert "| a row | 500 ms |" in page


def test_the_page_is_that_of_the_kept_runs() -> None:
    assert results.STORE.with_suffix(".md").read_text(encoding="utf-8") == results.page(results.stored())


def test_a_terminal_shows_the_ratio_beside_the_kept_one() -> None:
    last = results.text_table(a_run(ratio=2.0), a_run(ratio=1.0)).splitlines()[-1]
    assert re.split(r"\s{2,}", last.strip()) == ["2.00", "1.50-2.50", ">= 3.00", "25%", "1.00", "a row", "MISSED"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (1.995, "2.00"), (31.26, "31.3"), (12345.6, "12,346"), (0, "0")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert results.number(value) == text
