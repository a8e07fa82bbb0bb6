"""The report as one HTML page that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from dlkit.evaluation import curves, results, texts
from dlkit.evaluation.comparison import COLUMNS, Comparison, columns, compare
from dlkit.evaluation.markup import Child, Markup, join, tag

SPEEDUPS = {
    "few_step": "than the teacher at equal BLEU",
    "few_step_validity": "than the teacher at equal exact validity",
    "end_to_end": "than the teacher's full run, text in to text out",
    "full_ancestral_rounded": "than the full run with rounding, network and sampler alone",
    "full_ancestral": "than the full run, network and sampler alone",
    "network": "counting network calls alone",
}
EQUAL = {"few_step": "BLEU", "few_step_validity": "exact validity"}  # in which the teacher's few-step run is as good
WEAK = "undertrained teacher"


def page(report: Mapping[str, Any]) -> str:
    """The whole document. Sections whose data the report lacks are left out.

    Args:
        report: as made by :func:`dlkit.evaluation.report.report_dict`.
    """
    models, title = report["models"], report.get("title", "Teacher and one-step student")
    comparison = compare(models)
    found = {name: report[name] for name in ("samples", "emergence", "curves") if report.get(name)}
    body = join(
        tag("header", tag("h1", title), tag("p", _lead(report), class_="lead"), _headline(comparison, report)),
        _section("Teacher and student", results.table(models), _notes(report.get("notes", []))),
        _section("Quality and diversity by network calls", results.charts(models)),
        _section("What they write", texts.samples(found["samples"])) if "samples" in found else None,
        _section("How a sentence emerges", _about_emergence(), texts.emergence(found["emergence"]))
        if "emergence" in found
        else None,
        _section("How much faster", _speedups(report, comparison)) if report["speedup"] else None,
        _section("Targets", _targets(report["targets"])) if report.get("targets") else None,
        _section("Training", curves.curves(found["curves"])) if "curves" in found else None,
        _section("Protocol", _protocol(report["protocol"], models)),
        _section("Commands", tag("pre", "\n".join(report["commands"]))) if report.get("commands") else None,
        tag("footer", f"Written by dlkit {report['protocol']['versions']['dlkit']}. The numbers are in report.json."),
    )
    return "<!DOCTYPE html>\n" + tag("html", _head(title), tag("body", body), lang="en")


def style_sheet() -> str:
    """The CSS of the page, and of its charts."""
    return resources.files("dlkit.evaluation").joinpath("page.css").read_text(encoding="utf-8")


def _head(title: str) -> Markup:
    style = style_sheet()
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(style)),
    )


def _section(title: str, *content: Child) -> Markup | None:
    return tag("section", tag("h2", title), *content) if any(part is not None for part in content) else None


def _lead(report: Mapping[str, Any]) -> str:
    protocol = report["protocol"]
    data, count = protocol["data"], protocol["n_sources"]
    what = f"{count} sources of" if count else f"{protocol['num_samples']} texts without a source beside"
    return f"{what} {data['folder']}/{data['split']}, on {protocol['device']}."


def _headline(comparison: Comparison | None, report: Mapping[str, Any]) -> Markup | None:
    """The three numbers: quality kept, times faster, network calls."""
    if comparison is None:
        return None
    tiles = [_quality_tile(comparison)]
    if report["speedup"]:
        tiles.append(_speed_tile(report["speedup"], comparison))
    calls = comparison.student["nfe"]
    full = report.get("timing", {}).get("full_steps", comparison.teacher["nfe"])
    note = "for the teacher's full run" if "timing" in report else "for the teacher"
    call = "network call" if calls == 1 else "network calls"
    tiles.append(_tile(str(calls), f"{call} for a whole text", f"{full} {note}"))
    return tag("div", *tiles, class_="three")


def _quality_tile(comparison: Comparison) -> Markup:
    student, teacher = comparison.student["metrics"], comparison.teacher["metrics"]
    variety = next((name for name in results.DIVERSITY if name in student and name in teacher), None)
    shown = [comparison.metric, *([variety] if variety else [])]
    values = ", ".join(f"{COLUMNS[name]} {student[name]:.3f} against {teacher[name]:.3f}" for name in shown)
    note = f"{values} ({comparison.teacher['name']})"
    if comparison.kept is None:
        return _tile(WEAK, "no quality to keep", f"{note}; a ratio would claim nothing", words=True)
    return _tile(f"{comparison.kept:.0%}".replace("%", "\u202f%"), "of the teacher's quality kept", note)


def _speed_tile(speedup: Mapping[str, Any], comparison: Comparison) -> Markup:
    few = [(found, quality) for key, quality in EQUAL.items() if (found := speedup.get(key)) and found["factor"]]
    if comparison.undertrained:
        fair = f"{WEAK}: nothing is claimed at equal quality"
    elif not few:
        fair = "the teacher reached the student's quality with none of the few-step runs tried"
    else:
        least, quality = min(few, key=lambda pair: pair[0]["factor"])
        fair = f"{times(least['factor'])} against the {least['steps']} calls that give the teacher the same {quality}"
    return _tile(times(speedup["end_to_end"]), "faster than the full run, end to end", fair)


def _tile(figure: str, label: str, note: str, words: bool = False) -> Markup:
    class_ = "figure words" if words else "figure"
    return tag("div", tag("span", figure, class_=class_), tag("b", label), tag("span", note, class_="how"))


def times(factor: float) -> str:
    """A factor with as many digits as it deserves."""
    return f"{factor:,.0f}×" if factor >= 100 else f"{factor:.3g}×"


def _notes(notes: Sequence[str]) -> Markup | None:
    return join(*(tag("p", note) for note in notes)) if notes else None


def _about_emergence() -> Markup:
    text = "Words in normal ink are already the final ones in their place; faint slanted words will still change."
    return tag("p", text, class_="note")


def _speedups(report: Mapping[str, Any], comparison: Comparison | None) -> Markup:
    speedup = report["speedup"]
    claims = {key: times(factor) for key, factor in speedup.items() if isinstance(factor, float)}
    weak = comparison is not None and comparison.undertrained
    for key in EQUAL.keys() & speedup.keys():
        factor = speedup[key]["factor"]
        claims[key] = WEAK if weak else "–" if factor is None else times(factor)
    how = speedup.get("how", {})
    items = [_claim(claims[key], meaning, how.get(key, "")) for key, meaning in SPEEDUPS.items() if key in claims]
    return join(tag("dl", *items, class_="factors"), _seconds(report.get("timing")))


def _claim(claim: str, meaning: str, how: str) -> Markup:
    figure = tag("dt", claim, class_="words" if claim == WEAK else None)
    return tag("div", figure, tag("dd", tag("b", meaning), tag("div", how, class_="how")))


def _seconds(timing: Mapping[str, Any] | None) -> Markup | None:
    """Medians with their spread: what the factors were computed from."""
    if timing is None:
        return None
    spread = timing["spread"]
    rows = [
        tag(
            "tr",
            tag("th", name.replace("_", " "), scope="row"),
            tag("td", f"{value:.4g}"),
            tag("td", " to ".join(f"{edge:.4g}" for edge in spread[name]) if name in spread else "computed"),
        )
        for name, value in timing["seconds"].items()
    ]
    heads = (f"seconds for {timing['n_sources']} texts", "median", "least to most")
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    table = tag("table", head, tag("tbody", *rows), class_="numbers")
    return tag("div", table, class_="wide", style="margin-top:1.6rem;max-width:34rem")


def _targets(targets: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        tag("tr", *(tag("td", _plain(target[key])) for key in ("name", "value", "bound")), tag("td", _holds(target)))
        for target in targets
    ]
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in ("target", "found", "wanted", ""))))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="wide")


def _holds(target: Mapping[str, Any]) -> str:
    return "✓ holds" if target["holds"] else "✗ missed"


def _protocol(protocol: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> Markup:
    used = columns([dict(row) for row in models])
    defined = {COLUMNS.get(name, name): text for name, text in protocol["metrics"].items() if name in used}
    facts = {key.replace("_", " "): value for key, value in protocol.items() if key != "metrics"}
    stated = {**facts, **defined}
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", _plain(value))) for name, value in stated.items()]
    return tag("div", tag("table", tag("tbody", *rows), class_="facts"), class_="wide")


def _plain(value: Any) -> str:
    """Settings in a line of words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
