"""The harness of the benchmarks: its arithmetic, what it keeps, its page, its command."""

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import results, scaling
from benchmarks.measure import FEW, LONG, MANY, Limits, Ratio, peak_bytes, rounds_of
from benchmarks.scaling import Item, Point, curve, exponent
from benchmarks.versus import Case, Versus
from command_line import refused
from dlkit.errors import UserError

ROOT = Path(__file__).parents[1]
Command = Callable[..., tuple[int, str, str]]


# The measurement.


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_the_rounds() -> None:
    found = Ratio([1.0, 2.0, 4.0], [4.0, 4.0, 6.0])
    assert (found.ours, found.reference, found.ratio) == (2.0, 4.0, 2.0)
    assert (found.low, found.high) == (1.75, 3.0)  # quartiles of 4, 2 and 1.5


@pytest.mark.parametrize(
    ("asked", "one_round", "quick", "expected"),
    [
        (7, 1.0, False, 7),
        (3, 1.0, False, 7),
        (9, 1.0, False, 9),
        (7, 0.1, False, 20),
        (7, 0.001, False, 51),
        (3, 6.0, False, 3),
        (11, 6.0, False, 11),
        (9, 0.1, True, 7),
        (9, 1.0, True, 3),
        (9, 0.01, True, 20),
    ],
)
def test_how_many_rounds_a_row_has(asked: int, one_round: float, quick: bool, expected: int) -> None:
    assert rounds_of(asked, one_round, quick) == expected


def test_the_limit_is_the_longer_of_moving_and_computing() -> None:
    limits = Limits(copy=10.0, fp32=100.0, bf16=200.0)
    assert limits.seconds(20, 100, bf16=False) == 2.0
    assert limits.seconds(20, 1000, bf16=False) == 10.0
    assert limits.seconds(None, 1000, bf16=True) == 5.0
    assert limits.seconds(None, None, bf16=False) is None


class Clocked:
    """pytest-benchmark's fixture with the same calls in the same order, and times of our own making."""

    name, _mode, stats = "", None, SimpleNamespace()

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def pedantic(self, target: Callable[[], None], setup: Callable[[], None], rounds: int, iterations: int) -> None:
        times = []
        for _ in range(rounds * iterations):
            setup()
            target()
            times.append(self.seconds)
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=times))


@pytest.fixture
def versus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Versus]:
    """Where the reference always takes 8 s and ours a given time, on a machine with bf16 or without."""

    def make(ours: float, quick: bool = False, bf16: bool = True, device: str = "cpu") -> Versus:
        def reference_takes(work: Callable[[], object], device: torch.device) -> float:
            work()
            return 8.0

        monkeypatch.setattr("benchmarks.versus.seconds", reference_takes)
        run = {"bf16": bf16, "limits": {"copy": 1.0, "fp32": 1.0, "bf16": 1.0}, "rows": []}
        return Versus(Clocked(ours), run, quick, torch.device(device))

    return make


def test_both_sides_take_turns(versus: Callable[..., Versus]) -> None:
    calls: list[str] = []
    found = versus(4.0)(
        "a row", ours=lambda: calls.append("o"), reference=lambda: calls.append("r"), rounds=3, bytes=2.0
    )
    assert "".join(calls) == "ro" + "ro" * 3
    assert (found.ratio, found.low, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(("takes", "times"), [(LONG / 4, 2), (LONG, 1)])
def test_what_takes_long_is_called_once_before(
    versus: Callable[..., Versus], monkeypatch: pytest.MonkeyPatch, takes: float, times: int
) -> None:
    calls: list[str] = []
    made = versus(takes)
    monkeypatch.setattr("benchmarks.versus.seconds", lambda work, device: takes + 0.0 * len(str(work())))
    found = made("a row", ours=lambda: calls.append("o"), reference=lambda: calls.append("r"), rounds=FEW)
    assert "".join(calls) == "r" * times + "o" * times + "ro" * len(found.times)


def test_the_row_of_a_ratio(versus: Callable[..., Versus]) -> None:
    made = versus(4.0)
    made("a row", ours=lambda: 0, reference=lambda: 0, rounds=3, scale=10.0, bytes=2.0, bar=3.0, note="why")
    (row,) = made.run["rows"]
    assert row["ratio"] == 20.0
    assert row["limit_share"] == 0.5
    assert row["times"] == [4.0] * 3
    assert row["reference_times"] == [80.0] * 3
    assert not row["missed"]


def test_a_missed_bar_is_measured_twice_and_told(versus: Callable[..., Versus]) -> None:
    made = versus(4.0)
    found = made("a row", ours=lambda: 0, reference=lambda: 0, rounds=3, bar=3.0)
    assert len(found.times) == len(found.reference_times) == 6
    assert made.missed == ["a row: ratio 2, must be at least 3"]
    assert made.run["rows"][0]["missed"]


def test_several_cases_share_the_rounds_of_one_reference(
    versus: Callable[..., Versus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepared before the clock starts; what misses its bar, and the reference, as often again."""
    takes, calls = {"r": 8.0, "a": 4.0, "b": 8.0}, []
    made = versus(1.0)
    monkeypatch.setattr("benchmarks.versus.seconds", lambda work, device: takes[work()])

    def case(name: str, bar: float | None) -> Case:
        return Case(name, lambda: calls.append(name) or name, bar, before=lambda: calls.append(f"before {name}"))

    ratios = made.several(case("r", None), [case("a", 2.0), case("b", None)])
    assert calls == ["before r", "r", "before a", "a", "before b", "b"] * (1 + FEW)  # the first is not timed
    assert [ratio.ratio for ratio in ratios] == [2.0, 1.0]
    assert [row["ratio"] for row in made.run["rows"]] == [2.0, 1.0]
    assert not made.missed
    calls.clear()
    ratios = made.several(case("r", None), [case("a", 3.0), case("b", 1.0)])
    assert calls.count("b") == 1 + FEW
    assert len(ratios[0].times) == 2 * FEW
    assert calls.count("a") == 1 + 2 * FEW
    assert made.missed == ["a: ratio 2, must be at least 3"]


def test_what_is_there_twice_is_warmed_up_once(versus: Callable[..., Versus]) -> None:
    calls: list[str] = []

    def same() -> None:
        calls.append("r")

    versus(1.0).several(Case("r", same), [Case("other", lambda: calls.append("o")), Case("again", same)])
    assert "".join(calls) == "ro" + "ror" * FEW


def test_something_small_may_be_called_first(versus: Callable[..., Versus]) -> None:
    calls: list[str] = []
    small = Case("o", lambda: calls.append("o"), warm=lambda: calls.append("w"))
    versus(1.0).several(Case("r", lambda: calls.append("r")), [small])
    assert "".join(calls) == "rw" + "ro" * FEW


def test_rounds_are_counted_by_what_is_in_all_of_them(versus: Callable[..., Versus], monkeypatch) -> None:
    """A pair that is quick has seven rounds, whatever else takes long in one round alone."""
    takes = {"r": 2.0, "fp32": 1.0, "bf16": 80.0}
    cases = [Case(name, lambda name=name: name, bf16=name == "bf16") for name in takes]
    made = versus(1.0, bf16=False)
    monkeypatch.setattr("benchmarks.versus.seconds", lambda work, device: takes[work()])
    assert [len(ratio.times) for ratio in made.several(cases[0], cases[1:])] == [MANY, 1]
    assert versus(1.0, quick=True).several(cases[0], cases[1:]) == []  # none has a bar


def test_what_a_processor_only_emulates_is_measured_once(
    versus: Callable[..., Versus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one round of several, and in none of a quick run."""
    takes, calls = {"r": 8.0, "fp32": 4.0, "bf16": 80.0}, []
    cases = [Case(name, lambda name=name: calls.append(name) or name, 0.05, bf16=name == "bf16") for name in takes]
    for quick, native, expected in ((False, True, 1 + FEW), (False, False, 1), (True, False, 0)):
        calls.clear()
        made = versus(1.0, quick=quick, bf16=native)
        monkeypatch.setattr("benchmarks.versus.seconds", lambda work, device: takes[work()])
        made.several(cases[0], cases[1:])
        assert calls.count("bf16") == expected
        assert [row["ratio"] for row in made.run["rows"]] == ([2.0] if quick else [2.0, 0.1])
        assert not made.missed


@pytest.mark.parametrize(
    ("bar", "conditions", "missed"),
    [
        (2.0, {}, False),
        (2.1, {}, True),
        (2.8, {"quick": True}, False),
        (2.9, {"quick": True}, True),
        (9.0, {"bf16": False}, True),  # the row is not in bf16
        (9.0, {"device": "cuda"}, False),
    ],
)
def test_which_bars_hold(versus: Callable[..., Versus], monkeypatch, bar: float, conditions: Any, missed: bool) -> None:
    monkeypatch.setattr("benchmarks.versus.finish", lambda device: None)
    made = versus(4.0, **conditions)
    made("a row", ours=lambda: 0, reference=lambda: 0, bar=bar)
    assert bool(made.missed) == missed


def test_a_bar_of_bf16_holds_where_the_processor_has_it(versus: Callable[..., Versus]) -> None:
    for bf16 in (True, False):
        made = versus(4.0, bf16=bf16)
        made("a row", ours=lambda: 0, reference=lambda: 0, bar=9.0, bf16=True)
        assert bool(made.missed) == bf16


@pytest.mark.parametrize(
    ("quick", "lower", "bar", "missed"),
    [
        (False, True, 0.5, False),
        (False, True, 0.4, True),
        (True, True, 0.4, False),
        (True, True, 0.3, True),
        (False, False, 0.5, False),
        (False, False, 0.6, True),
        (True, False, 0.6, False),
    ],
)
def test_two_numbers_are_compared(
    versus: Callable[..., Versus], quick: bool, lower: bool, bar: float, missed: bool
) -> None:
    made = versus(1.0, quick=quick)
    assert made.compare("memory", ours=1e6, reference=2e6, bar=bar, lower=lower) == 0.5
    assert (made.run["rows"][0]["ours"], made.run["rows"][0]["reference"]) == (1.0, 2.0)
    assert bool(made.missed) == missed


class TestPeak:
    """Of x [512, 256] through 1,024 hidden units with a ReLU and back, counted on paper.

    The most is alive when the ReLU's gradient is made: it, the gradient that comes in and the ReLU's output, 512 * 1024
    numbers each, and what the second layer has already: the gradients of its matrix, 1024 * 256, and bias, 256.
    """

    hidden, matrix, bias = 4 * 512 * 1024, 4 * 1024 * 256, 4 * 256
    peak = 3 * hidden + matrix + bias
    slack = 64  # sum and seed of the backward pass, 4 bytes each

    @pytest.fixture
    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))

    def test_of_gradients_that_are_given_back(self, net: nn.Module) -> None:
        x, weights = torch.randn(512, 256), list(net.parameters())
        found = peak_bytes(lambda: torch.autograd.grad(net(x).sum(), weights))
        assert self.peak <= found <= self.peak + self.slack

    def test_of_gradients_in_place_of_those_before(self, net: nn.Module) -> None:
        """The gradients of the call before are alive at the beginning and gone at the peak."""
        x = torch.randn(512, 256)

        def step() -> None:
            net.zero_grad(set_to_none=True)
            net(x).sum().backward()

        kept = sum(4 * weight.numel() for weight in net.parameters())
        found = peak_bytes(step)
        assert self.peak - kept <= found <= self.peak - kept + self.slack

    @pytest.mark.parametrize("leaves_nothing", [False, True])
    def test_of_one_after_the_other(self, leaves_nothing: bool) -> None:
        calls: list[int] = []

        def work() -> None:
            calls.append(1)
            for _ in range(3):
                torch.empty(1000)

        assert peak_bytes(work, leaves_nothing=leaves_nothing) == 4000
        assert len(calls) == 2 - leaves_nothing
        assert peak_bytes(work, first=lambda: calls.clear()) == 4000
        assert len(calls) == 1


# Cost as work grows.


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    assert exponent([(1.0, 3.0), (2.0, 12.0), (4.0, 48.0)]) == pytest.approx(2.0)
    assert math.isnan(exponent([(1.0, 3.0)]))


def test_points_that_would_take_too_long_are_left_out_and_named() -> None:
    measured: list[int] = []

    def quadratic(item: Item, point: Point) -> float:
        measured.append(point.length)
        return point.length**2 / 1000

    found = curve(Item("squares", lambda point, folder: print), "length", quadratic)
    assert measured == [64, 16, 32]  # the base point first; 128 is predicted to take 16 s
    assert found.exponent == pytest.approx(2.0)
    assert [size for size, _ in found.measured] == [16, 32, 64]
    assert [size for size, _ in found.skipped] == [128, 256]
    assert [cost for _, cost in found.skipped] == pytest.approx([128**2 / 1000, 256**2 / 1000])


@pytest.mark.parametrize("item", scaling.ITEMS, ids=lambda item: item.name)
def test_every_item_can_be_done(item: Item, tmp_path: Path) -> None:
    work = item.make(Point(batch=2, length=16, vocab=64, model="BERT-tiny"), tmp_path)
    work()
    work()


def test_a_models_size_is_that_of_its_layers() -> None:
    assert Point(model="BERT-base").size("model") == 12 * (4 * 768**2 + 2 * 768 * 3072)


# What is kept.


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


# The command.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "tpu"], ["--device tpu", "cpu or cuda"]),
        (["--json", "{folder}"], ["is a folder", "give a file"]),
        (["--json", "{file}/run.json"], ["cannot write"]),
        (["--rounds", "3"], ["--rounds"]),
    ],
)
def test_a_wrong_option_is_one_line(command: Command, tmp_path: Path, options: list[str], words: list[str]) -> None:
    (tmp_path / "file").write_text("kept")
    given = [option.format(folder=tmp_path, file=tmp_path / "file") for option in options]
    refused(command("bench", *given), *words)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_is_not_there_is_one_line(command: Command) -> None:
    refused(command("bench", "--device", "cuda"), "--device cuda", "there is none")


def test_a_missing_package_is_named_with_the_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    lacking = lambda name, *rest: None if name == "pytest_benchmark" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", lacking)
    refused(command("bench"), "needs pytest_benchmark;", "dlkit-lm[test]")


@pytest.mark.parametrize(("child", "code"), [(0, 0), (1, 1), (3, 1)])
def test_a_missed_bar_is_an_exit_code(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, child: int, code: int
) -> None:
    called: list[list[str]] = []

    def run(words: list[str]) -> SimpleNamespace:
        called.append(words)
        return SimpleNamespace(returncode=child)

    monkeypatch.setattr(subprocess, "run", run)
    assert command("bench", "--quick", "--json", tmp_path / "new/run.json")[0] == code
    (words,) = called
    assert words[:3] == [sys.executable, "-m", "pytest"]
    assert str(ROOT / "benchmarks") in words
    assert "--quick" in words
    assert words[words.index("--json") + 1] == str(tmp_path / "new/run.json")


def test_wheels_hold_the_benchmarks_where_the_command_looks() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"benchmarks": "dlkit/_bench/benchmarks"}
    assert '"_bench/benchmarks"' in (ROOT / "dlkit/cli/bench.py").read_text()


ROWS = """
def test_of_a_row(versus, quick, device):
    assert quick
    versus("slower", ours=lambda: sum(range(400000)), reference=lambda: sum(range(20000)), bar=2.0)
    versus("faster", ours=lambda: sum(range(10000)), reference=lambda: sum(range(400000)), bar=2.0)
    versus.compare("smaller", ours=1, reference=2, bar=0.5)
"""


@pytest.mark.slow
def test_a_whole_run(tmp_path: Path) -> None:
    """A folder of one benchmark that misses one bar of three: all its rows are written, and the run fails."""
    folder = tmp_path / "benchmarks"
    shutil.copytree(ROOT / "benchmarks", folder, ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    (folder / "test_row.py").write_text(ROWS)
    command = [sys.executable, "-m", "pytest", "-q", str(folder), "--quick", "--json", str(tmp_path / "run.json")]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^slower: ratio 0\.\d+, must be at least 1\.4$", done.stdout, re.MULTILINE)
    run = json.loads((tmp_path / "run.json").read_text())
    assert [(row["name"], row["missed"]) for row in run["rows"]] == [
        ("slower", True),
        ("faster", False),
        ("smaller", False),
    ]
    assert run["complete"]
    assert run["limits"]["copy"] > 1e8
    shutil.copy(folder / "test_row.py", folder / "test_row_2.py")
    subprocess.run([*command, "-x"], capture_output=True, cwd=ROOT, env=alone)
    assert not json.loads((tmp_path / "run.json").read_text())["complete"]  # it ended at the first that missed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["tests/test_part.py", "benchmarks/"], "alone"),
        (["benchmarks/", "-n", "2"], "-n"),
        (["benchmarks/", "--device", "x"], "'x'"),
    ],
)
def test_what_would_measure_nothing_is_refused(words: list[str], why: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 4
    assert why in done.stderr
