"""Line charts as inline SVG: no library, no script, colours from the page's style sheet."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dlkit.evaluation.markup import Markup, join, tag

LETTER = 6.7  # mean width of a letter of the labels, in the units of the drawing
LINE = 13.0
MARKS = ("circle", "square", "triangle", "diamond", "wedge")


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        name: its label; empty for none.
        points: (x, y, standard error of y), in the order of x.
        role: class in the style sheet: ``teacher``, ``student`` or ``plain``.
        mark: one of :data:`MARKS`, or empty for a bare line.
    """

    name: str
    points: Sequence[tuple[float, float, float]]
    role: str = "plain"
    mark: str = ""


@dataclass(frozen=True)
class Frame:
    """From data to places in the drawing.

    Attributes:
        x_range, y_range: the data's ranges; x_range positive where ``log_x``.
        box: left, top, right and bottom of the plot in the drawing.
        log_x: x is drawn on a logarithmic axis.
    """

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    box: tuple[float, float, float, float]
    log_x: bool = False

    def x(self, value: float) -> float:
        scale = math.log10 if self.log_x else float
        low, high = map(scale, self.x_range)
        share = (scale(value) - low) / (high - low) if high > low else 0.5
        return self.box[0] + share * (self.box[2] - self.box[0])

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.box[3] - (value - low) / (high - low) * (self.box[3] - self.box[1])


@dataclass
class Labels:
    """Puts labels where they cover least: each at the best of a few places around its point."""

    frame: Frame
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    ink: list[tuple[float, float]] = field(default_factory=list)

    def put(self, text: str, places: Sequence[tuple[float, float, str]], role: str) -> Markup:
        """Draw ``text`` at the place (x, y, anchor) of least cost; earlier ones win ties."""
        x, y, anchor = min(places, key=lambda place: self._cost(_extent(text, *place)))
        self.taken.append(_extent(text, x, y, anchor))
        return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=f"label {role}")

    def _cost(self, box: tuple[float, float, float, float]) -> float:
        left, top, right, bottom = box
        edges = self.frame.box
        outside = left < edges[0] or right > edges[2] + 14 or top < edges[1] - 12 or bottom > edges[3]
        covered = sum(left < x < right and top < y < bottom for x, y in self.ink)
        clashes = sum(left < r and l < right and top < b and t < bottom for l, t, r, b in self.taken)
        return 1000 * outside + 100 * clashes + covered


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "",
    log_x: bool = False,
    references: Sequence[tuple[str, float]] = (),
    boundaries: Sequence[float] = (),
    size: tuple[int, int] = (350, 270),
    unit_range: bool = False,
) -> Markup:
    """A figure with lines, marks, error bars (one standard error each way), direct labels and dashed references.

    Args:
        references: label and height of horizontal lines.
        boundaries: places on x of dotted vertical lines.
        size: of the drawing; it scales with the page.
        unit_range: the y axis shows all of 0 to 1.
    """
    frame = _frame(series, references, size, log_x, unit_range)
    labels = Labels(frame, ink=[place for line in series for place in _ink(line, frame)])
    drawn = join(
        *_axes(frame, x_label),
        *(_vertical(frame, x) for x in boundaries),
        *(_reference(frame, y) for _, y in references),
        *(_line(line, frame) for line in series),
        *(_name(line, frame, labels) for line in series if line.name),
        *(labels.put(text, _along(frame, y), "reference") for text, y in references),
    )
    picture = tag("svg", drawn, viewBox=f"0 0 {size[0]} {size[1]}", role="img", aria_label=_in_words(title, series))
    return tag("figure", tag("figcaption", title), picture)


def _frame(
    series: Sequence[Series], references: Sequence[tuple[str, float]], size: tuple[int, int], log_x: bool, unit: bool
) -> Frame:
    points = [point for line in series for point in line.points]
    xs = [x for x, _, _ in points]
    edges = [edge for _, y, error in points for edge in (y - error, y + error)] + [y for _, y in references]
    margin = 16 if any(line.name for line in series) else 10
    x_range = (min(xs), max(xs))
    if log_x and x_range[0] == x_range[1]:
        x_range = (x_range[0] / 2, x_range[1] * 2)
    y_range = (0.0, 1.0) if unit else _padded(min(edges), max(edges))
    return Frame(x_range, y_range, (40, 12, size[0] - margin, size[1] - 36), log_x)


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range around the data whose ends are ticks."""
    span = max(high - low, 0.02, 0.02 * abs(high))
    step = _step(span * 1.1)
    bottom, top = math.floor((low - 0.04 * span) / step) * step, math.ceil((high + 0.04 * span) / step) * step
    return (max(bottom, 0.0) if low >= 0 else bottom), top


def _step(span: float, count: int = 5) -> float:
    """Of 1, 2 and 5 times a power of ten the first that cuts a span into ``count`` pieces or fewer."""
    power = 10.0 ** math.floor(math.log10(span / count))
    return next(power * k for k in (1, 2, 5, 10) if power * k * count >= span * 0.999)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``."""
    if high <= low:
        return [low]
    step = _step(high - low)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 10, 100 ...; with 2 and 5 between them where the range is short."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low <= 120 else (1,)
    return [k * 10.0**d for d in decades for k in factors if low * 0.999 <= k * 10.0**d <= high * 1.001]


def number(value: float) -> str:
    """A tick's label: four digits at most, thousands as k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}"


def _axes(frame: Frame, x_label: str) -> Iterator[Markup]:
    left, _, right, bottom = frame.box
    for value in ticks(*frame.y_range):
        y = frame.y(value)
        yield _segment(left, y, right, y, "grid")
        yield tag("text", number(value), x=left - 6, y=f"{y + 4:.1f}", text_anchor="end", class_="tick")
    for value in log_ticks(*frame.x_range) if frame.log_x else ticks(*frame.x_range):
        x = frame.x(value)
        yield _segment(x, bottom, x, bottom + 4, "axis")
        yield tag("text", number(value), x=f"{x:.1f}", y=bottom + 17, text_anchor="middle", class_="tick")
    yield _segment(left, bottom, right, bottom, "axis")
    yield tag("text", x_label, x=(left + right) / 2, y=bottom + 33, text_anchor="middle", class_="tick")


def _segment(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def _vertical(frame: Frame, x: float) -> Markup:
    return _segment(frame.x(x), frame.box[1], frame.x(x), frame.box[3], "boundary")


def _reference(frame: Frame, y: float) -> Markup:
    return _segment(frame.box[0], frame.y(y), frame.box[2], frame.y(y), "reference")


def _line(line: Series, frame: Frame) -> Markup:
    places = [(frame.x(x), frame.y(y)) for x, y, _ in line.points]
    bars = [
        _segment(frame.x(x), frame.y(y - error), frame.x(x), frame.y(y + error), "error")
        for x, y, error in line.points
        if error
    ]
    path = tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places))
    return tag("g", path, *bars, *(_mark(line.mark, x, y) for x, y in places if line.mark), class_=line.role)


def _mark(shape: str, x: float, y: float) -> Markup:
    if shape == "circle":
        return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=4.5)
    corners = {
        "square": [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        "triangle": [(0, -5.5), (5, 4), (-5, 4)],
        "diamond": [(0, -6), (6, 0), (0, 6), (-6, 0)],
        "wedge": [(0, 5.5), (5, -4), (-5, -4)],
    }[shape]
    return tag("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners))


def _ink(line: Series, frame: Frame) -> Iterator[tuple[float, float]]:
    """Places a line covers, a few units apart: what labels should keep away from."""
    places = [(frame.x(x), frame.y(y)) for x, y, _ in line.points]
    for x, y, error in line.points:
        reach = int(abs(frame.y(y + error) - frame.y(y))) + 5
        yield from ((frame.x(x) + dx, frame.y(y) + dy) for dy in range(-reach, reach + 1, 3) for dx in (-4, 0, 4))
    for (x1, y1), (x2, y2) in pairwise(places):
        count = int(math.hypot(x2 - x1, y2 - y1) // 4) + 1
        yield from ((x1 + (x2 - x1) * k / count, y1 + (y2 - y1) * k / count) for k in range(count))


def _name(line: Series, frame: Frame, labels: Labels) -> Markup:
    """A line's name, beside its last point or around any of its others."""
    places: list[tuple[float, float, str]] = []
    for x, y, _ in reversed(line.points):
        at, height = frame.x(x), frame.y(y)
        places += [(at + 10, height + 4, "start"), (at - 10, height + 4, "end")]
        for dy in (-12, 20, -26, 34, -40, 48):
            places += [(at, height + dy, "middle"), (at + 6, height + dy, "start"), (at + 8, height + dy, "end")]
    return labels.put(line.name, places, line.role)


def _along(frame: Frame, y: float) -> list[tuple[float, float, str]]:
    """Places above and below a horizontal line, from the right to the left."""
    left, _, right, _ = frame.box
    spots = [(right, "end"), ((left + right) / 2, "middle"), (left + 6, "start")]
    return [(x, frame.y(y) + dy, anchor) for x, anchor in spots for dy in (-6, 15)]


def _extent(text: str, x: float, y: float, anchor: str) -> tuple[float, float, float, float]:
    width = LETTER * len(text)
    left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
    return left, y - LINE + 3, left + width, y + 3


def _in_words(title: str, series: Sequence[Series]) -> str:
    """The chart for those who cannot see it: first and last point of each line."""
    parts = []
    for line in series:
        (x1, y1, _), (x2, y2, _) = line.points[0], line.points[-1]
        end = f" to {number(y2)} at {number(x2)}" if len(line.points) > 1 else ""
        parts.append(f"{line.name or 'line'}: {number(y1)} at {number(x1)}{end}")
    return f"{title}. {'; '.join(parts)}"
