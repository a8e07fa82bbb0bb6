"""The report's table and its charts of quality and diversity."""

from collections.abc import Sequence

from dlkit.evaluation.charts import MARKS, Series, line_chart
from dlkit.evaluation.comparison import COLUMNS, YARDSTICKS, Model, best, columns, peers
from dlkit.evaluation.markup import Markup, join, tag

QUALITY = ("bleu", "exact_validity")
DIVERSITY = ("distinct_valid", "div_4")  # the first that was measured is drawn


def table(models: Sequence[Model]) -> Markup:
    """All rows; a star marks the best of a column."""
    names = columns(models)
    titles = [COLUMNS.get(name, name).replace("-", "\u2011") for name in names]  # hyphens that do not break the line
    heads = ["model", "calls", "texts", *titles, "seconds a text"]
    tops = {name: best(models, name) for name in names}
    rows = [
        tag(
            "tr",
            tag("th", row["name"], scope="row"),
            tag("td", row["nfe"]),
            tag("td", _texts(row), tag("small", f"MBR of {row['mbr']}") if row["mbr"] else None),
            *(_cell(row, name, row in tops[name]) for name in names),
            tag("td", f"{row['seconds_per_sample']:.2g}"),
            class_=row["kind"],
        )
        for row in models
    ]
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    return join(
        tag("div", tag("table", head, tag("tbody", *rows), class_="numbers"), class_="wide"),
        tag("p", _legend(models), class_="note"),
    )


def _texts(row: Model) -> str:
    return f"{row['n_sources']} × {row['num_samples']}"


def _cell(row: Model, name: str, is_best: bool) -> Markup:
    if name not in row["metrics"]:
        return tag("td", "–")
    value, error = row["metrics"][name], row.get("standard_error", {}).get(name)
    small = None if error is None else tag("small", f"± {error:.3f}")
    return tag("td", tag("span", f"{value:.3f}", class_="best" if is_best else None), small)


def _legend(models: Sequence[Model]) -> str:
    text = "★ best of its column. ± is one standard error over sources. Texts are sources × samples."
    if len({row["num_samples"] for row in models}) > 1:
        text += " Metrics that compare samples are starred and drawn only for rows with as many samples as the student."
    marks = yardsticks(models)
    if marks:
        values = ", ".join(f"{value:.3f} for {label}" for label, value in marks)
        text += f" Distinct valid: different correct samples of a source / its samples; on these sources {values}."
    return text


def yardsticks(models: Sequence[Model]) -> list[tuple[str, float]]:
    """What a perfect sampler and a collapsed one score in ``distinct_valid``, where its peers agree on that."""
    rows = [row["metrics"] for row in peers(models, "distinct_valid")]
    found = {tuple(row[name] for name in YARDSTICKS) for row in rows if YARDSTICKS[0] in row}
    return list(zip(("a perfect sampler", "total collapse"), found.pop(), strict=True)) if len(found) == 1 else []


def charts(models: Sequence[Model]) -> Markup | None:
    """Quality and diversity over network calls, for the metrics that were measured."""
    found = columns(models)
    diversity = [name for name in DIVERSITY if name in found][:1]
    drawn = [_chart(models, name) for name in [*(name for name in QUALITY if name in found), *diversity]]
    note = "Bars are one standard error each way. Every line but the student's is the teacher's, by sampler."
    return join(tag("div", *drawn, class_="charts"), tag("p", note, class_="note")) if drawn else None


def _chart(models: Sequence[Model], metric: str) -> Markup:
    lines: dict[tuple[str, str, int], list[tuple[float, float, float]]] = {}
    for row in sorted(peers(models, metric), key=lambda row: row["nfe"]):
        error = row.get("standard_error", {}).get(metric, 0.0)
        lines.setdefault(_line_of(row), []).append((row["nfe"], row["metrics"][metric], error))
    others = [key for key in lines if key[0] != "student"]
    marks = {key: MARKS[0] if key[0] == "student" else MARKS[1 + others.index(key) % (len(MARKS) - 1)] for key in lines}
    series = [Series(_label(key, others), points, key[0], marks[key]) for key, points in lines.items()]
    references = yardsticks(models) if metric == "distinct_valid" else []
    return line_chart(COLUMNS[metric], series, x_label="network calls", log_x=True, references=references)


def _line_of(row: Model) -> tuple[str, str, int]:
    """Rows of one line: a student with one call and the same student re-noised belong together."""
    return row["kind"], "" if row["kind"] == "student" else _sampler(row), row["mbr"]


def _sampler(row: Model) -> str:
    return row["sampler"]["name"] + (" rounded" if row["sampler"].get("rounding") else "")


def _label(key: tuple[str, str, int], teachers: Sequence[tuple[str, str, int]]) -> str:
    """As short as tells the lines apart."""
    kind, sampler, mbr = key
    several = len({name for _, name, _ in teachers}) > 1
    words = [sampler.replace("ddim", "DDIM") if several and sampler else kind, f"MBR {mbr}" if mbr else ""]
    return " ".join(filter(None, words))
