"""A row of the table: ours beside a reference, in turns."""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.measure import LONG, Limits, Ratio, Work, finish, garbage_kept, rounds_of, seconds

QUICK_SHARE = 0.7
"""What part of a bar a quick run must reach."""


@dataclass(frozen=True)
class Case:
    """What a row is of, beside its reference; see :meth:`Versus.__call__`.

    Attributes:
        before: called ahead of each round.
        settles: whether it is called once more ahead of each round, so that it is timed as if it had run all along and
            ``before`` had been called long ago. Not in a quick run.
        warm: called once before all rounds; None is ``ours``. For what takes long, something small that compiles the
            same.
    """

    name: str
    ours: Work
    bar: float | None = None
    bytes: float | None = None
    flops: float | None = None
    bf16: bool = False
    note: str = ""
    before: Work = lambda: None
    settles: bool = False
    warm: Work | None = None


class Versus:
    """One row of the table for each call: a ratio, its bar, and how far from the machine's limit it is.

    A bar that is missed fails the test. On a GPU, and for bf16 on a CPU that lacks it, bars are told and not held.

    Attributes:
        missed: a line for each bar that was missed.
    """

    def __init__(self, benchmark: Any, run: dict[str, Any], quick: bool, device: torch.device) -> None:
        self.benchmark, self.run, self.quick, self.device = benchmark, run, quick, device
        benchmark._mode = "versus"  # used, even if numbers alone are compared
        self.missed: list[str] = []

    def __call__(
        self,
        name: str,
        *,
        ours: Work,
        reference: Work,
        bar: float | None = None,
        rounds: int = 7,
        scale: float = 1.0,
        bytes: float | None = None,
        flops: float | None = None,
        bf16: bool = False,
        note: str = "",
    ) -> Ratio:
        """Reference, ours, reference, ours, ...: the ratio of their median times.

        Args:
            name: of the row.
            ours, reference: both are called before anything is timed.
            bar: how many times faster ours must be; None if the ratio is only told.
            rounds: at least so many, see :func:`benchmarks.measure.rounds_of`.
            scale: of the reference's time: 2000 where it is one of 2,000 equal steps.
            bytes: that ours must read and write; flops: that it must do. Counted from shapes.
            bf16: whether it computes in bf16.
            note: a few words for the table.
        """
        case = Case(name, ours, bar, bytes, flops, bf16, note)
        one_round = self._warm(reference) + self._warm(ours)
        count = 1 if self.quick and bar is None else rounds_of(rounds, one_round, self.quick)
        ratio = self._rounds(name, ours, reference, scale, count)
        if self._misses(case, ratio):
            again = self._rounds(name, ours, reference, scale, count)
            ratio = Ratio(ratio.times + again.times, ratio.reference_times + again.reference_times)
        self._timed(case, ratio)
        return ratio

    def several(self, reference: "Case", cases: Sequence["Case"], rounds: int = 0) -> list[Ratio]:
        """A row for each of several cases beside one reference: every round has all of them, one after another.

        For what takes so long that the reference cannot be timed anew for each. A quick run leaves out what has no bar;
        what computes in bf16 on a processor that lacks it, and so takes many times as long, is in one round only, its
        first. What misses its bar has as many rounds again, with the reference.

        Args:
            reference: of all cases; its bar is not read.
            cases: one row each.
            rounds: at least so many, see :func:`benchmarks.measure.rounds_of`.
        """
        if self.quick:
            cases = [case for case in cases if case.bar is not None and not self._is_emulated(case)]
        if not cases:
            return []
        everyone, times = [reference, *cases], [[] for _ in range(len(cases) + 1)]
        self.benchmark.name, self.benchmark._mode = cases[0].name, "several"

        def measure(which: Iterable[int]) -> float:
            took = 0.0
            for k in which:
                everyone[k].before()
                if everyone[k].settles and not self.quick:
                    everyone[k].ours()
                gc.collect()
                times[k].append(seconds(everyone[k].ours, self.device))
                took += times[k][-1]
            return took

        def warm(which: Iterable[int]) -> None:
            for k in which:
                everyone[k].before()
                (everyone[k].warm or everyone[k].ours)()

        def ratios() -> list[Ratio]:
            return [Ratio(own, times[0][: len(own)]) for own in times[1:]]

        often = [k for k, case in enumerate(everyone) if not self._is_emulated(case)]
        with garbage_kept():
            warm(k for k in often if all(everyone[k].ours is not case.ours for case in everyone[:k]))
            measure(range(len(everyone)))
            longest = max(times[k][0] for k in often if k) if often[1:] else 0.0
            count = rounds_of(rounds, times[0][0] + longest, self.quick)
            for _ in range(count - 1):
                measure(often)
            missed = [k for k, found in enumerate(ratios(), 1) if self._misses(everyone[k], found)]
            for _ in range(count if missed else 0):
                measure([0, *missed])
        for case, ratio in zip(cases, ratios(), strict=True):
            self._timed(case, ratio)
        return ratios()

    def _misses(self, case: "Case", ratio: Ratio) -> bool:
        return case.bar is not None and self._holds(case.bf16) and ratio.ratio < case.bar * self._share()

    def _is_emulated(self, case: "Case") -> bool:
        return case.bf16 and not self.run["bf16"]

    def _timed(self, case: "Case", ratio: Ratio) -> None:
        """Put the row of a ratio of times into the run."""
        row = {
            "name": case.name,
            "unit": "s",
            "ours": ratio.ours,
            "reference": ratio.reference,
            "ratio": ratio.ratio,
            "low": ratio.low,
            "high": ratio.high,
            "bar": case.bar,
            "bytes": case.bytes,
            "flops": case.flops,
            "bf16": case.bf16,
            "note": case.note,
            "times": ratio.times,
            "reference_times": ratio.reference_times,
        }
        self._add(row, case.bar is not None and self._holds(case.bf16), lower=False)

    def compare(
        self,
        name: str,
        *,
        ours: float,
        reference: float,
        bar: float | None = None,
        lower: bool = True,
        unit: str = "MB",
        bf16: bool = False,
        note: str = "",
    ) -> float:
        """A ratio ours / reference of two numbers that were measured elsewhere.

        Args:
            bar: the ratio must be at most this if ``lower``, else at least.
            unit: of both numbers; MB are counted from bytes.
        """
        size = 1e6 if unit == "MB" else 1.0
        row = {
            "name": name,
            "unit": unit,
            "ours": ours / size,
            "reference": reference / size,
            "ratio": ours / reference,
            "bar": bar,
            "lower": lower,
            "bf16": bf16,
            "note": note,
        }
        self._add(row, bar is not None and self._holds(bf16), lower)
        return ours / reference

    def _holds(self, bf16: bool) -> bool:
        return self.device.type == "cpu" and (not bf16 or self.run["bf16"])

    def _share(self) -> float:
        return QUICK_SHARE if self.quick else 1.0

    def _warm(self, work: Work) -> float:
        """Twice, unless once takes long: what compiles at the first call is ready at the second."""
        took = seconds(work, self.device)
        return took if took > LONG / 2 else seconds(work, self.device)

    def _rounds(self, name: str, ours: Work, reference: Work, scale: float, count: int) -> Ratio:
        """pytest-benchmark times ours, and asks for the reference before each of its rounds."""
        times: list[float] = []

        def before() -> None:
            gc.collect()
            times.append(scale * seconds(reference, self.device))
            gc.collect()

        def timed() -> None:
            ours()
            finish(self.device)

        self.benchmark.name, self.benchmark._mode = name, None  # one of its rows for each of ours
        with garbage_kept():
            self.benchmark.pedantic(timed, setup=before, rounds=count, iterations=1)
        return Ratio(list(self.benchmark.stats.stats.data), times)

    def _add(self, row: dict[str, Any], held: bool, lower: bool) -> None:
        """Put a row into the run; a bar that it misses is told after the test, so that its other rows come too."""
        bar, share = row["bar"], self._share()
        wanted = None if bar is None else bar / share if lower else bar * share
        missed = held and not (row["ratio"] <= wanted if lower else row["ratio"] >= wanted)
        self.run["rows"].append(row | {"held": held, "missed": missed})
        if missed:
            side = "most" if lower else "least"
            self.missed.append(f"{row['name']}: ratio {row['ratio']:.3g}, must be at {side} {wanted:.3g}")


def share_limits(rows: Iterable[dict[str, Any]], limits: Limits) -> None:
    """Say in each row of times how near to the limit it is: ``limit_share``, None where nothing is counted."""
    for row in rows:
        if "bytes" in row:
            least = limits.seconds(row["bytes"], row["flops"], row["bf16"])
            row["limit_share"] = least and least / row["ours"]
