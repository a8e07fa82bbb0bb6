"""What report.json and report.html hold."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dlkit.errors import UserError
from dlkit.evaluation import curves
from dlkit.evaluation.charts import Series, line_chart, log_ticks, number, ticks
from dlkit.evaluation.comparison import best, compare, peers
from dlkit.evaluation.evaluate import Row
from dlkit.evaluation.markup import Markup, join, tag
from dlkit.evaluation.page import page, times
from dlkit.evaluation.protocol import DataIdentity, Protocol, metric_definitions, metric_settings, versions
from dlkit.evaluation.report import markdown_table, read_report, report_dict, write_report

EVIL = "<script>alert('x')</script> & \"more\""
SPEEDUP = {
    "full_ancestral": 1990.0,
    "full_ancestral_rounded": 2100.0,
    "few_step": {"steps": 8, "factor": 6.125, "chosen_by": "fewest"},
    "end_to_end": 1712.4,
    "network": 1996.0,
    "how": {"end_to_end": "by the clock"},
}
EXTRAS: dict[str, Any] = {
    "title": f"title {EVIL}",
    "notes": [f"note {EVIL}"],
    "commands": [f"dlkit demo {EVIL}"],
    "targets": [{"name": f"target {EVIL}", "value": 0.5, "bound": "≥ 0.6", "holds": False}],
    "samples": [
        {
            "source": f"source {EVIL}",
            "references": [f"reference {EVIL}"],
            "teacher": ["right", f"wrong {EVIL}"],
            "student": [f"source {EVIL}", ""],
            "teacher_valid": [True, False],
            "student_valid": [False, False],
        }
    ],
    "emergence": {
        "source": f"source {EVIL}",
        "teacher": [{"call": k, "t": 1 - k / 20, "text": f"{EVIL} {k}"} for k in range(1, 20)],
        "student": [{"call": 1, "t": 0.7455, "text": ""}],
    },
    "curves": [
        {"kind": "distill", "stage": 0, "step": 10, "loss": 1.0, "t0.00-0.25": 3.0},
        {"kind": "distill", "stage": 0, "step": 20, "loss": float("nan")},
        {"kind": "distill", "stage": 1, "step": 10, "loss": 0.5},
        {"kind": "valid", "stage": 1, "step": 10, "bleu": 0.4, "copy": 0.0},
    ],
    "timing": {
        "n_sources": 4,
        "rounds": 3,
        "full_steps": 2000,
        "seconds": {"student": 0.02},
        "spread": {"student": [0.01, 0.03]},
    },
}
SECTIONS = {
    "samples": "What they write",
    "emergence": "How a sentence emerges",
    "targets": "Targets",
    "curves": "Training",
    "commands": "Commands",
}


def row(kind: str, nfe: int, bleu: float, samples: int = 4, **more: float) -> Row:
    sampler = {"name": "one_step" if kind == "student" else "ddim", "steps": nfe}
    return Row(
        f"{kind} {nfe}", kind, sampler, nfe, 0, samples, 100, {"bleu": bleu, **more}, {"bleu": 0.01}, 0.001 * nfe
    )


ROWS = [row("teacher", 8, 0.4, div_4=0.5), row("teacher", 50, 0.5, div_4=0.6), row("student", 1, 0.45, div_4=0.55)]
PROTOCOL = Protocol(
    data=DataIdentity(folder=f"data{EVIL}", split="test", sha256="0" * 64),
    n_sources=100,
    num_samples=4,
    mbr=0,
    diversity_samples=4,
    seed=0,
    batch_size=256,
    decoder={"name": "linear_head"},
    device="a processor",
    threads=1,
    precision="float32",
    reference_text="re-decoded ids",
    metrics=metric_definitions(),
    settings=metric_settings(),
    versions=versions(),
)


class Reader(HTMLParser):
    """Checks that tags nest, and keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name not in ("meta", "br"):
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, text: str) -> None:
        self.text += "" if self.open and self.open[-1] == "style" else text


def test_the_json_has_the_promised_keys(tmp_path: Path) -> None:
    write_report(tmp_path, report_dict(PROTOCOL, ROWS, SPEEDUP))
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert set(found) == {"protocol", "models", "speedup"}
    promised = {"name", "kind", "sampler", "nfe", "mbr", "num_samples", "n_sources", "metrics", "seconds_per_sample"}
    assert all(set(model) == promised | {"standard_error"} for model in found["models"])
    assert found["speedup"] == SPEEDUP
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == found


def test_extras_are_kept_unless_empty_or_unknown() -> None:
    assert report_dict(PROTOCOL, ROWS, None, notes=["n"], samples=[])["notes"] == ["n"]
    assert set(report_dict(PROTOCOL, ROWS, None, samples=[])) == {"protocol", "models", "speedup"}
    with pytest.raises(UserError, match="no part 'note'; known: title, notes"):
        report_dict(PROTOCOL, ROWS, SPEEDUP, note=["n"])
    with pytest.raises(UserError, match="at least one"):
        report_dict(PROTOCOL, [], SPEEDUP)


@pytest.mark.parametrize("content", ["[]", '{"protocol": {}, "models": []}'])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UserError, match=r"is no report: it lacks .*speedup"):
        read_report(tmp_path)


def test_the_page_is_sound_and_needs_nothing_beside_it() -> None:
    text = page(report_dict(PROTOCOL, ROWS, SPEEDUP, **EXTRAS))
    reader = Reader(text)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    names = {name for name, _ in reader.tags}
    assert not names & {"script", "link", "img", "iframe", "object"}
    assert not any(
        key in ("src", "href") or key.startswith("on") for _, attributes in reader.tags for key in attributes
    )
    assert all(title in reader.text for title in SECTIONS.values())


def test_every_text_is_escaped() -> None:
    reader = Reader(page(report_dict(PROTOCOL, ROWS, SPEEDUP, **EXTRAS)))
    for what in ("title", "note", "demo", "target", "source", "reference", "wrong", "data"):
        assert f"{what} {EVIL}" in reader.text or f"{what}{EVIL}" in reader.text


@pytest.mark.parametrize("extra", SECTIONS)
def test_sections_without_data_are_left_out(extra: str) -> None:
    others = {name: value for name, value in EXTRAS.items() if name != extra}
    reader = Reader(page(report_dict(PROTOCOL, ROWS, SPEEDUP, **others)))
    assert SECTIONS[extra] not in reader.text


def test_a_page_of_one_row_alone() -> None:
    reader = Reader(page(report_dict(PROTOCOL, [row("student", 1, 0.4)])))
    assert "How much faster" not in reader.text and "quality kept" not in reader.text and "Protocol" in reader.text


def test_the_headline_has_quality_speed_and_calls() -> None:
    text = Reader(page(report_dict(PROTOCOL, ROWS, SPEEDUP, timing=EXTRAS["timing"]))).text
    assert "90\u202f%" in text and "BLEU 0.450 against 0.500, div-4 0.550 against 0.600 (teacher 50)" in text
    assert "1,712×" in text and "6.12× against the 8 calls that give the teacher the same BLEU" in text
    assert "2000 for the teacher's full run" in text


def test_the_headline_quotes_the_smallest_factor_at_equal_quality() -> None:
    speedup = {**SPEEDUP, "few_step_validity": {"steps": 2, "factor": 1.5, "sampler": {}, "chosen_by": "fastest"}}
    text = Reader(page(report_dict(PROTOCOL, ROWS, speedup))).text
    assert "1.5× against the 2 calls that give the teacher the same exact validity" in text
    assert "than the teacher at equal exact validity" in text and "6.12×than the teacher at equal BLEU" in text


def test_an_undertrained_teacher_claims_nothing() -> None:
    rows = [row("teacher", 8, 0.1), row("student", 1, 0.09)]
    text = Reader(page(report_dict(PROTOCOL, rows, SPEEDUP))).text
    assert text.count("undertrained teacher") == 3 and "6.12×" not in text and "quality kept" not in text
    known = [row("teacher", 8, 0.1, exact_validity=0.5), row("student", 1, 0.09, exact_validity=0.4)]
    text = Reader(page(report_dict(PROTOCOL, known, SPEEDUP))).text
    assert "undertrained" not in text and "80\u202f%" in text


def test_a_teacher_that_never_reached_the_student_is_said_so() -> None:
    speedup = {**SPEEDUP, "few_step": {"steps": None, "factor": None, "chosen_by": "none"}}
    assert "with none of the few-step runs tried" in Reader(page(report_dict(PROTOCOL, ROWS, speedup))).text


def test_only_like_is_compared_with_like() -> None:
    models = [r.to_dict() for r in [*ROWS, row("teacher", 99, 0.9, samples=1)]]
    comparison = compare(models)
    assert comparison and comparison.teacher["name"] == "teacher 50" and comparison.kept == pytest.approx(0.9)
    assert compare(models[:2]) is None and compare(models[2:]) is None


def test_metrics_of_samples_are_compared_between_rows_with_as_many() -> None:
    models = [r.to_dict() for r in [*ROWS, row("teacher", 99, 0.9, samples=2, div_4=0.99)]]
    assert [m["nfe"] for m in peers(models, "div_4")] == [8, 50, 1]
    assert [m["nfe"] for m in best(models, "div_4")] == [50]
    assert [m["nfe"] for m in best(models, "bleu")] == [99]
    assert best(models[:1], "bleu") == [] and best(models, "unheard_of") == []


def test_yardsticks_are_drawn_and_told() -> None:
    marks = {"distinct_valid": 0.6, "perfect_distinct_valid": 0.957, "collapse_distinct_valid": 0.25}
    text = page(report_dict(PROTOCOL, [row("teacher", 8, 0.4, **marks), row("student", 1, 0.4, **marks)]))
    assert "0.957 for a perfect sampler, 0.250 for total collapse" in text
    assert text.count('class="reference"') == 2 and ">total collapse</text>" in text
    assert "perfect_distinct_valid" not in text


def test_verdicts_are_words_and_marks_not_colours_alone() -> None:
    reader = Reader(page(report_dict(PROTOCOL, ROWS, samples=EXTRAS["samples"])))
    labels = [attributes.get("aria-label") for name, attributes in reader.tags if attributes.get("class") == "mark"]
    assert labels == ["right", "wrong", "copy", "wrong"]
    assert all(mark in reader.text for mark in "✓✗=")


def test_stages_follow_each_other_on_the_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, tuple[Any, Any]] = {}

    def keep(title: str, series: list[Series], boundaries: list[int], **_: Any) -> Markup:
        drawn[title] = (list(series[0].points), boundaries)
        return Markup("")

    monkeypatch.setattr(curves, "line_chart", keep)
    curves.curves(EXTRAS["curves"])
    assert set(drawn) == {"loss", "bleu", "copy"}
    assert drawn["loss"] == ([(10, 1.0, 0.0), (30, 0.5, 0.0)], [20])
    assert curves.curves([]) is None


def test_long_curves_are_thinned_by_means() -> None:
    points = curves.thinned([(float(k), 2.0, 0.0) for k in range(1000)])
    assert len(points) <= curves.MOST_POINTS and points[0] == (3.0, 2.0, 0.0)


def test_the_markdown_table() -> None:
    lines = markdown_table([*ROWS, row("a|b", 2, 0.1)]).splitlines()
    assert lines[0] == "| model | calls | sources × samples | BLEU | div-4 | seconds a text |"
    assert lines[2] == "| teacher 8 | 8 | 100 × 4 | 0.400 ± 0.010 | 0.500 | 0.008 |"
    assert lines[5] == "| a\\|b 2 | 2 | 100 × 4 | 0.100 ± 0.010 | – | 0.002 |"
    assert markdown_table([r.to_dict() for r in ROWS]) == markdown_table(ROWS)


def test_markup_escapes_all_but_itself() -> None:
    made = tag("p", "<b>", tag("i", "&"), None, class_="a", aria_label='"')
    assert made == '<p class="a" aria-label="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert join("<", Markup("<br>")) == "&lt;<br>"


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3.0, 3.0) == [3.0]
    assert log_ticks(1, 2000) == [1, 10, 100, 1000]
    assert log_ticks(1, 50) == [1, 2, 5, 10, 20, 50]
    assert [number(v) for v in (0, 0.25, 12000, 0.0001)] == ["0", "0.25", "12k", "1e-04"]
    assert [times(v) for v in (6.126, 12.34, 1712.4)] == ["6.13×", "12.3×", "1,712×"]


@pytest.mark.parametrize(
    "points", [[(1.0, 0.0, 0.0)], [(1.0, 5.0, 0.1), (8.0, 5.0, 0.1)], [(0.5, -1e6, 0.0), (2.0, 1e6, 9.0)]]
)
@pytest.mark.parametrize("log_x", [True, False])
def test_charts_of_awkward_data(points: list[tuple[float, float, float]], log_x: bool) -> None:
    Reader(line_chart("t", [Series("a name", points, "teacher", "square")], log_x=log_x, references=[("r", 0.5)]))


def test_labels_do_not_cover_each_other() -> None:
    series = [Series(f"line {k}", [(1.0, 0.5, 0.0), (10.0, 0.5 + k / 100, 0.0)], "teacher", "circle") for k in range(3)]
    reader = Reader(line_chart("t", series, log_x=True))
    labels = [a for name, a in reader.tags if name == "text" and (a.get("class") or "").startswith("label")]
    places = [(float(a["x"] or 0), float(a["y"] or 0)) for a in labels]
    assert len(places) == 3
    assert all(abs(p[1] - q[1]) >= 12 or abs(p[0] - q[0]) > 40 for p in places for q in places if p is not q)
