"""How much faster a student is, said in several ways, all measured in one process."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from dlkit.errors import UserError
from dlkit.evaluation.comparison import COLUMNS
from dlkit.evaluation.evaluate import Row
from dlkit.generator import OneStepGenerator, Teacher, TextModel

FEW, MORE = 4, 12  # lengths of the two ancestral runs from which the cost of a step follows
FEW_STEP = 250  # most calls of a run that counts as a few-step one
COST = 4  # rounding makes a step dearer, but not this many times, so a run of more times the fewest calls is no rival
FACTORS = {"bleu": "few_step", "exact_validity": "few_step_validity"}  # what equal quality means in which factor

Measures = dict[str, Callable[[], float]]
Few = Mapping[str, Sequence[Row]]


def time_models(
    teacher: Teacher,
    student: OneStepGenerator,
    sources: Sequence[str],
    *,
    rounds: int = 5,
    few_steps: Few | None = None,
    full_steps: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Time both models on one batch of all sources, in interleaved rounds after one unmeasured round; medians count.

    A full run is not carried out. With T(k) the seconds of a k-step ancestral run, text in to text out,

        step = (T(12) - T(4)) / 8,  overhead = T(4) - 4 step,  full = overhead + full_steps * step,

    where a step is never taken to cost less than the network call within it.

    Args:
        sources: one text is written for each.
        few_steps: for ``bleu`` and, where it was measured, ``exact_validity`` the teacher's rows that are as good as
            the student, see :func:`fewest_steps`.
        full_steps: length of the teacher's full ancestral run.

    Returns:
        ``seconds`` (medians, of the whole batch) and ``spread`` (least and most) of what was measured, and ``speedup``:

        - ``full_ancestral``: full_steps steps, text handling left out, over the student's network call;
        - ``full_ancestral_rounded``: the same with rounding to the nearest embedding at every step;
        - ``few_step`` and ``few_step_validity``: {steps, factor, sampler, chosen_by}, text in to text out: the least
          factor over the rows of ``few_steps`` for BLEU and exact validity; steps, factor and sampler None if there are
          no rows;
        - ``end_to_end``: the full rounded run over the student, text in to text out;
        - ``network``: full_steps network calls of the teacher over the student's one;
        - ``how``: for each of these how it was timed.

    Raises:
        UserError: there are no sources or rounds, or the teacher has fewer steps than asked for.
    """
    if not sources or rounds < 1:
        raise UserError(f"{len(sources)} sources and {rounds} rounds: timing needs at least one of each")
    teacher.choose_sampler("ancestral", full_steps)  # refuses what the teacher cannot do
    few = {"bleu": [], **(few_steps or {})}
    spread = _rounds(_measures(teacher, student, list(sources), few, seed), rounds)
    seconds = _derived({name: statistics.median(values) for name, values in spread.items()}, full_steps)
    factors = _factors(seconds, full_steps) | {FACTORS[m]: _few_factor(seconds, m, rows) for m, rows in few.items()}
    speedup = {**factors, "how": _how(len(sources), rounds, full_steps, factors)}
    return {
        "n_sources": len(sources),
        "rounds": rounds,
        "full_steps": full_steps,
        "seconds": seconds,
        "spread": {name: [min(values), max(values)] for name, values in spread.items()},
        "speedup": speedup,
    }


def fewest_steps(rows: Iterable[Row], student: Row, metric: str = "bleu") -> list[Row]:
    """The teacher's cheapest ways to the student's quality: which of them is the fastest has to be timed.

    Of each sampler (its settings but the steps) the row with the fewest calls that reaches the student's value of the
    metric without minimum Bayes risk; none of more than 250 calls, and none of more than four times the fewest.
    """
    least = student.metrics[metric]
    fit = [
        row
        for row in rows
        if row.kind == "teacher" and not row.mbr and row.nfe <= FEW_STEP and row.metrics.get(metric, -1.0) >= least
    ]
    cheapest: dict[str, Row] = {}
    for row in sorted(fit, key=lambda row: row.nfe):
        cheapest.setdefault(str({**row.sampler, "steps": None}), row)
    return [row for row in cheapest.values() if row.nfe <= COST * min(row.nfe for row in fit)]


class NetworkClock:
    """Seconds spent inside the calls of a network while the clock is on."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.seconds, self._started = network, 0.0, 0.0

    def __enter__(self) -> Self:
        self._hooks = [
            self.network.register_forward_pre_hook(lambda *_: self._start()),
            self.network.register_forward_hook(lambda *_: self._stop()),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _start(self) -> None:
        _wait()
        self._started = time.perf_counter()

    def _stop(self) -> None:
        _wait()
        self.seconds += time.perf_counter() - self._started


def _wait() -> None:
    """Let the GPU finish, where there is one: its calls return before their work is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _measures(teacher: Teacher, student: OneStepGenerator, sources: list[str], few: Few, seed: int) -> Measures:
    """What one round measures."""

    def run(model: TextModel, **sampling: Any) -> None:
        model.generate(sources, seed=seed, batch_size=len(sources), **sampling)

    def total(model: TextModel, **sampling: Any) -> Callable[[], float]:
        def measure() -> float:
            start = time.perf_counter()
            run(model, **sampling)
            return time.perf_counter() - start

        return measure

    def network(model: TextModel, **sampling: Any) -> Callable[[], float]:
        def measure() -> float:
            with NetworkClock(model.denoiser) as clock:
                run(model, **sampling)
            return clock.seconds

        return measure

    rounded = {"name": "ancestral", "rounding": True}
    measures = {
        "student": total(student, steps=1),
        "student_network": network(student, steps=1),
        "teacher_network": network(teacher, sampler="ancestral", steps=FEW),
        **{f"ancestral_{k}": total(teacher, sampler="ancestral", steps=k) for k in (FEW, MORE)},
        **{f"ancestral_rounded_{k}": total(teacher, sampler=rounded, steps=k) for k in (FEW, MORE)},
    }
    return measures | {_label(row): total(teacher, sampler=row.sampler) for rows in few.values() for row in rows}


def _label(row: Row) -> str:
    """What the measure of a few-step run is called: sampler, steps and whatever else is switched on."""
    settings = {key: value for key, value in row.sampler.items() if key not in ("name", "steps") and value}
    extras = [key if value is True else f"{key} {value}" for key, value in settings.items()]
    return "_".join(["few_step", row.sampler["name"], str(row.nfe), *extras])


def _rounds(measures: Measures, rounds: int) -> dict[str, list[float]]:
    """Each measure once per round, so that whatever else the machine does falls on all alike."""
    for measure in measures.values():
        measure()
    seen: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            seen[name].append(measure())
    return seen


def _derived(seconds: dict[str, float], full_steps: int) -> dict[str, float]:
    """The measured seconds with what follows from them: network call, step and full run of the teacher."""
    call = seconds["teacher_network"] / FEW
    derived = {**seconds, "teacher_call": call}
    for kind in ("ancestral", "ancestral_rounded"):
        step = max((seconds[f"{kind}_{MORE}"] - seconds[f"{kind}_{FEW}"]) / (MORE - FEW), call)
        overhead = max(seconds[f"{kind}_{FEW}"] - FEW * step, 0.0)
        derived |= {f"{kind}_step": step, f"{kind}_full": overhead + full_steps * step}
    return derived


def _factors(seconds: dict[str, float], full_steps: int) -> dict[str, Any]:
    student, call = seconds["student"], seconds["student_network"]
    return {
        "full_ancestral": full_steps * seconds["ancestral_step"] / call,
        "full_ancestral_rounded": full_steps * seconds["ancestral_rounded_step"] / call,
        "end_to_end": seconds["ancestral_rounded_full"] / student,
        "network": full_steps * seconds["teacher_call"] / call,
    }


def _few_factor(seconds: dict[str, float], metric: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The student against the fastest of the teacher's runs that are as good."""
    quality = COLUMNS[metric]
    if not rows:
        reason = f"none of the teacher's runs of up to {FEW_STEP} calls reached the student's {quality}"
        return {"steps": None, "factor": None, "sampler": None, "chosen_by": f"{reason}, so nothing is compared"}
    fastest = min(rows, key=lambda row: seconds[_label(row)])
    return {
        "steps": fastest.nfe,
        "factor": seconds[_label(fastest)] / seconds["student"],
        "sampler": fastest.sampler,
        "chosen_by": f"the fastest of the teacher's runs, by any sampler, whose {quality} is at least the student's",
    }


def _how(n_sources: int, rounds: int, full_steps: int, factors: Mapping[str, Any]) -> dict[str, str]:
    setting = f"one batch of {n_sources} texts, median of {rounds} interleaved rounds in one process"
    step = f"cost of a step from runs of {FEW} and {MORE} steps, in which text handling cancels, times {full_steps}"
    run = "run in full, over the student, both text in to text out"
    few = {key: factors[key] for key in FACTORS.values() if key in factors}
    return {
        "full_ancestral": f"{step}, without rounding, over the student's network call; {setting}",
        "full_ancestral_rounded": f"{step}, with rounding at every step, over the student's network call; {setting}",
        **{
            key: f"{found['chosen_by']}: {found['sampler']}, {run}; {setting}" if found["steps"] else found["chosen_by"]
            for key, found in few.items()
        },
        "end_to_end": (
            f"{full_steps} ancestral steps with rounding (extrapolated from {FEW} and {MORE} steps), encoding and "
            f"detokenising, over the student's text in to text out; {setting}"
        ),
        "network": f"{full_steps} network calls of the teacher over the student's one, nothing else; {setting}",
    }
