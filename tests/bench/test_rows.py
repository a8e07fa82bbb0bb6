"""How a row of the benchmarks is measured."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import conftest
from benchmarks.measure import FEW, LONG, MANY, Limits, Ratio, faster, peak_bytes, rounds_of
from benchmarks.versus import Case, Versus, share_limits


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
    assert faster(limits, Limits(copy=20.0, fp32=50.0, bf16=200.0)) == Limits(copy=20.0, fp32=100.0, bf16=200.0)


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
    share_limits([row, {"name": "of numbers"}], Limits(**made.run["limits"]))
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


@pytest.mark.parametrize(("quick", "twice"), [(False, "oo"), (True, "o")])
def test_what_settles_is_called_before_it_is_timed(versus: Callable[..., Versus], quick: bool, twice: str) -> None:
    calls: list[str] = []
    case = Case("o", lambda: calls.append("o"), 1e-9, before=lambda: calls.append("b"), settles=True, warm=lambda: None)
    made = versus(1.0, quick=quick)
    (ratio,) = made.several(Case("r", lambda: calls.append("r")), [case])
    assert "".join(calls) == "rb" + f"rb{twice}" * len(ratio.times)


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


@pytest.mark.parametrize(("quick", "copy"), [(False, 40.0), (True, 10.0)])
def test_limits_are_the_faster_of_both_ends_of_a_run(
    quick: bool, copy: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a quick run those of its beginning; the file has them."""
    path, row = tmp_path / "run.json", {"bytes": 40.0, "flops": None, "bf16": False, "ours": 8.0}
    at_first = {"copy": 10.0, "fp32": 5.0, "bf16": 1.0}
    run = {"quick": quick, "complete": True, "device": "x", "limits": at_first, "rows": [row]}
    stash = {conftest.RUN: run, conftest.BROKEN: False, conftest.COLLECTED: 1, conftest.BEGUN: 0.0}
    options = {"--json": str(path), "--device": "cpu"}
    reporter = SimpleNamespace(stats={"passed": [None]}, section=lambda title: None, write_line=lambda line: None)
    monkeypatch.setattr(conftest, "limits", lambda device: Limits(copy=40.0, fp32=2.0, bf16=1.0))
    monkeypatch.setattr(conftest.results, "text_table", lambda run, before: "")
    conftest.pytest_terminal_summary(reporter, 0, SimpleNamespace(stash=stash, getoption=options.__getitem__))
    written = json.loads(path.read_text())
    assert written["limits"] == {"copy": copy, "fp32": 5.0, "bf16": 1.0}
    assert written["rows"][0]["limit_share"] == 40.0 / copy / 8.0
    assert written["complete"]
