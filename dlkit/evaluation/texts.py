"""The report's texts: samples side by side, and a sentence as it emerges."""

from collections.abc import Sequence
from typing import Any

from dlkit.evaluation.markup import Markup, join, tag
from dlkit.metrics._grammar import normalised

MOST_CALLS = 12  # rows of a teacher's trajectory
MARKS = {"right": "✓", "wrong": "✗", "copy": "=", "plain": "·"}


def samples(given: Sequence[dict[str, Any]]) -> Markup:
    """One card for each source, the teacher's and the student's texts side by side."""
    legend = "= repeats the source (italic)."
    if any("teacher_valid" in sample for sample in given):
        legend = "✓ correct,  ✗ incorrect (underlined),  = repeats the source (italic), which counts as incorrect."
    return join(tag("p", legend, class_="note"), *(_card(sample) for sample in given))


def _card(sample: dict[str, Any]) -> Markup:
    references = sample.get("references", [])
    return tag(
        "div",
        tag("p", tag("strong", sample["source"])),
        tag("div", *(_column(sample, kind) for kind in ("teacher", "student")), class_="pair"),
        tag("p", f"Reference: {references[0]}", class_="note") if references else None,
        class_="card",
    )


def _column(sample: dict[str, Any], kind: str) -> Markup:
    texts = sample[kind]
    valid = sample.get(f"{kind}_valid") or [None] * len(texts)
    items = [_item(text, _verdict(text, sample["source"], right)) for text, right in zip(texts, valid, strict=True)]
    return tag("div", tag("h3", kind, class_=kind), tag("ul", *items, class_="texts"))


def _verdict(text: str, source: str, right: bool | None) -> str:
    if normalised(text).lower() == normalised(source).lower():
        return "copy"
    return "plain" if right is None else "right" if right else "wrong"


def _item(text: str, verdict: str) -> Markup:
    words = {"plain": None, "copy": "copy"}.get(verdict, verdict)
    mark = tag("span", MARKS[verdict], class_="mark", role="img" if words else None, aria_label=words)
    return tag("li", mark, tag("span", text or "(nothing)", class_="text"), class_=verdict)


def emergence(given: dict[str, Any]) -> Markup:
    """The sentence after each of the teacher's calls beside the student's single one; unsettled words are faint."""
    columns = [_trajectory(kind, given[kind]) for kind in ("teacher", "student")]
    return tag("div", tag("p", tag("strong", given["source"])), tag("div", *columns, class_="pair"), class_="card")


def _trajectory(kind: str, calls: Sequence[dict[str, Any]]) -> Markup:
    final = calls[-1]["text"].split()
    cells = [(call["call"], f"{call['t']:.2f}", _settling(call["text"], final)) for call in _some(calls)]
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in ("call", "t", "text"))))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in cells))
    count = f"{calls[-1]['call']} calls" if calls[-1]["call"] > 1 else "1 call"
    return tag("div", tag("h3", f"{kind}, {count}", class_=kind), tag("table", head, body, class_="calls"))


def _settling(text: str, final: Sequence[str]) -> Markup:
    """Words already equal to the final one in their place in normal ink, the others faint and slanted."""
    words = text.split()
    settled = [place < len(final) and word == final[place] for place, word in enumerate(words)]
    shown = [word if done else tag("i", word) for word, done in zip(words, settled, strict=True)]
    return join(*(piece for word in shown for piece in (word, " "))) if shown else tag("i", "(nothing yet)")


def _some(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Evenly spread calls, first and last included."""
    count = min(len(calls), MOST_CALLS)
    return [calls[round(k * (len(calls) - 1) / max(count - 1, 1))] for k in range(count)]
