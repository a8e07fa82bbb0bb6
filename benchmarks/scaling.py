"""How cost grows: ``python -m benchmarks.scaling``, or ``make bench-scaling``.

From a base point (batch 8, length 64, vocabulary 8k, BERT-small) one axis grows at a time. A point has up to three
rounds; one that the points before it predict to take over five seconds is skipped and listed. Over each axis
cost = c * size^k is fitted: an exponent k of 1 is proportional, below 1 there is overhead that larger work spreads.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import results
from benchmarks.about import about
from benchmarks.measure import CPU, FEW, LONG, Work, garbage_kept, seconds
from benchmarks.networks import BASE, DIM, SMALL, Size, denoiser, stage, student, teacher, texts
from dlkit.diffusion.condition import Condition
from dlkit.errors import UserError
from dlkit.kernels.linear_cross_entropy import linear_cross_entropy
from dlkit.kernels.nearest_token import nearest_token
from dlkit.samplers.ancestral import Ancestral

MODELS: dict[str, Size] = {
    "BERT-tiny": (2, 128, 2, 512),
    "BERT-mini": (4, 256, 4, 1024),
    "BERT-small": SMALL,
    "BERT-medium": (8, 512, 8, 2048),
    "BERT-base": BASE,
}


@dataclass(frozen=True)
class Point:
    """How much work there is.

    Attributes:
        batch, length, vocab: texts, positions of each, tokens; model: of :data:`MODELS`.
        steps: network calls of the teacher's sampler.
    """

    batch: int = 8
    length: int = 64
    vocab: int = 8192
    model: str = "BERT-small"
    steps: int = 1

    def size(self, axis: str) -> float:
        """Where the point lies on an axis; a model's size is that of its layers' weights."""
        if axis != "model":
            return getattr(self, axis)
        layers, hidden, _, ff = MODELS[self.model]
        return layers * (4 * hidden**2 + 2 * hidden * ff)


AXES: dict[str, tuple[Any, ...]] = {
    "batch": (2, 4, 8, 16, 32),
    "length": (16, 32, 64, 128, 256),
    "vocab": (2048, 8192, 32_768),
    "model": tuple(MODELS),
    "steps": (1, 2, 4, 8),
}


def distillation(point: Point, folder: Path) -> Work:
    """One iteration of Algorithm 1, SiD and adversary: a critic's update and a generator's."""
    made = teacher(*MODELS[point.model], point.vocab, point.length)
    begun = stage(made, folder, [f"batch_size={point.batch}"])
    steps = iter(range(1000))
    return lambda: begun.step(next(steps))


def teacher_steps(point: Point, folder: Path) -> Work:
    """Steps of the teacher's ancestral sampler with rounding."""
    network = denoiser(*MODELS[point.model], point.vocab, point.length)
    ids = torch.arange(point.batch * point.length).view(point.batch, point.length) % point.vocab
    cond = Condition(network.space.embed(ids).detach(), torch.arange(point.length).expand_as(ids) >= point.length // 2)
    noise = torch.randn(*ids.shape, DIM, generator=torch.Generator().manual_seed(0))
    sampler = Ancestral(steps=point.steps, rounding=True)

    @torch.inference_mode()
    def work() -> None:
        sampler.sample(network, cond, lambda k: noise)

    return work


def student_call(point: Point, folder: Path) -> Work:
    """The student from texts to texts."""
    model = student(*MODELS[point.model], point.vocab, point.length)
    sources = texts(point.batch, point.length // 2 - 3, point.vocab)
    return lambda: model.generate(sources)


def rounding(point: Point, folder: Path) -> Work:
    """``nearest_token`` of all positions."""
    x, table = _states(point)
    return lambda: nearest_token(x, table)


def cross_entropy(point: Point, folder: Path) -> Work:
    """``linear_cross_entropy`` of all positions with both gradients."""
    x, table = (each.requires_grad_() for each in _states(point))
    ids = torch.arange(len(x)) % point.vocab
    return lambda: torch.autograd.grad(linear_cross_entropy(x, table, None, ids).sum(), (x, table))


def _states(point: Point) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, DIM, generator=generator) for n in (point.batch * point.length, point.vocab))  # type: ignore[return-value]


@dataclass(frozen=True)
class Item:
    """Something whose cost is asked for.

    Attributes:
        name: for the table.
        make: what is called, made for a point with a folder of its own.
        axes: on which it grows.
    """

    name: str
    make: Callable[[Point, Path], Work]
    axes: tuple[str, ...] = ("batch", "length", "vocab", "model")


ITEMS = (
    Item("distillation iteration", distillation),
    Item("teacher's sampling", teacher_steps, (*AXES,)),
    Item("student, text to text", student_call),
    Item("nearest_token", rounding, ("batch", "length", "vocab")),
    Item("linear_cross_entropy, forward and backward", cross_entropy, ("batch", "length", "vocab")),
)


@dataclass
class Curve:
    """The cost of an item along an axis.

    Attributes:
        measured: size and seconds of each point; skipped: size and predicted seconds of those left out.
    """

    item: str
    axis: str
    measured: list[tuple[float, float]] = field(default_factory=list)
    skipped: list[tuple[float, float]] = field(default_factory=list)

    def predicted(self, size: float) -> float:
        """Seconds at another size: by the line through the two nearest points in logarithms, or in proportion to one.

        Nothing here shrinks as work grows, or grows faster than its square, so that a steeper line is noise.
        """
        if not self.measured:
            return 0.0
        near = sorted(self.measured, key=lambda point: abs(math.log(point[0] / size)))[:2]
        power = min(2.0, max(0.0, exponent(near))) if len(near) > 1 else 1.0
        return near[0][1] * (size / near[0][0]) ** power

    @property
    def exponent(self) -> float:
        """k of cost = c * size^k, fitted to all that was measured."""
        return exponent(self.measured)


def exponent(points: Iterable[tuple[float, float]]) -> float:
    """The slope of the least-squares line through the logarithms; nan for fewer than two points."""
    logs = [(math.log(size), math.log(cost)) for size, cost in points]
    if len(logs) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def curve(item: Item, axis: str, measure: Callable[[Item, Point], float], longest: float = LONG) -> Curve:
    """Measure an item at the base point, then from the smallest size on, but for points that would take too long."""
    found = Curve(item.name, axis)
    own = getattr(Point(), axis)
    for value in (own, *(value for value in AXES[axis] if value != own)):
        point = replace(Point(), **{axis: value})
        size = point.size(axis)
        expected = found.predicted(size)
        if expected > longest:
            found.skipped.append((size, expected))
        else:
            found.measured.append((size, measure(item, point)))
    found.measured.sort()
    return found


def shortest(item: Item, point: Point) -> float:
    """Seconds of the shortest of three rounds, as what else the machine does only adds; of one that takes over five.

    The call before the first round, which may compile, does not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = item.make(point, Path(folder))
        with garbage_kept():
            work()
            first = seconds(work)
            return min(first, *(seconds(work) for _ in range(FEW - 1))) if first <= LONG else first


def curves() -> Iterator[Curve]:
    """Every item along each of its axes; a point that several axes share is measured once."""
    known: dict[tuple[str, Point], float] = {}

    def measure(item: Item, point: Point) -> float:
        if (item.name, point) not in known:
            known[item.name, point] = shortest(item, point)
        return known[item.name, point]

    for item in ITEMS:
        for axis in item.axes:
            yield curve(item, axis, measure)


def main(arguments: list[str] | None = None) -> int:
    """Run all, print a line for each curve, write the JSON that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="How cost grows with work.")
    parser.add_argument("--json", type=Path, help="where to write the curves")
    options = parser.parse_args(arguments)
    run = about(CPU, "make bench-scaling") | {"base": asdict(Point()), "curves": []}
    for found in curves():
        run["curves"].append(asdict(found) | {"exponent": found.exponent})
        print(results.curve_line(run["curves"][-1]), flush=True)
    if options.json:
        results.write_run(options.json, run)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
