"""What metrics promise."""

import dataclasses
import math
import unittest

from dlkit.errors import UserError
from dlkit.metrics._base import NEEDS, Cases, Metric, Sequences, SourceMetric, mean
from dlkit.testing import _material as material
from dlkit.testing._promise import promise, require
from dlkit.training.data import HeldOut


def cases() -> Cases:
    """Sources of the built-in corpus with two samples each, out of right, wrong, copied and empty ones."""
    held_out = HeldOut.read(material.corpus(), "test", 6)
    wrong = ["where is the shop ?", "", "is it wet ?"]
    samples = [
        [pair.refs[0] if number % 2 else pair.src, [*pair.refs, *wrong][-1 - number % 3]]
        for number, pair in enumerate(held_out.pairs)
    ]
    return held_out.cases(samples)


def texts() -> Cases:
    """Texts without a source, with held-out texts beside them."""
    given = cases()
    written = [text for samples in given.hypotheses for text in samples]
    sequences = Sequences([[len(word) for word in text.split()] for text in written], written)
    return Cases.without_sources(written, list(given.sources), sequences)


def suitable(part: Metric) -> Cases:
    """Cases that offer what a metric needs."""
    return texts() if part.for_texts else cases()


def without(need: str) -> Cases:
    """Cases that do not offer one of the needs."""
    whole = cases()
    if need in ("sources", "texts"):
        return dataclasses.replace(texts(), held_out=()) if need == "texts" else texts()
    changes = {
        "references": {"references": [()] * len(whole.sources)},
        "samples>=2": {"hypotheses": [samples[:1] for samples in whole.hypotheses]},
        "grammar": {"paraphrases": None},
    }
    return dataclasses.replace(whole, **changes[need])


def need_no_download(part: Metric) -> None:
    """Metrics that are computed on request only may need a model that is not here."""
    if getattr(part, "on_request", False):
        raise unittest.SkipTest(f"{part.registered_name} is computed on request only")


@promise()
def is_a_number(part: Metric) -> None:
    """It gives one finite number, the same again, and leaves the cases as they were."""
    need_no_download(part)
    given = suitable(part)
    score = part.score(given)
    require(isinstance(score, float) and math.isfinite(score), f"the score is {score!r}, not a finite float")
    require(part.score(suitable(part)) == score, "two calls differ")
    require(given == dataclasses.replace(suitable(part), paraphrases=given.paraphrases), "it changes the cases")


@promise()
def does_not_mind_the_order(part: Metric) -> None:
    """Sources in another order have the same score."""
    need_no_download(part)
    given = suitable(part)
    rows = {name: getattr(given, name)[::-1] for name in ("sources", "hypotheses", "references")}
    told = given.sequences
    sequences = None if told is None else Sequences(told.ids[::-1], told.texts[::-1])
    turned = dataclasses.replace(given, sequences=sequences, **rows)
    require(math.isclose(part.score(turned), part.score(given), abs_tol=1e-9), "the score depends on the order")


@promise()
def is_the_mean_of_its_sources(part: Metric) -> None:
    """A mean over sources is the mean of what it gives for each."""
    need_no_download(part)
    if isinstance(part, SourceMetric):
        values = part.per_source(suitable(part))
        count = len(suitable(part).sources)
        require(len(values) == count, f"there are {len(values)} values for {count} sources")
        require(math.isclose(mean(values), part.score(suitable(part)), abs_tol=1e-12), "the score is not their mean")


@promise(variants=False)
def says_what_it_needs(part: Metric) -> None:
    """Its direction and needs are known, and cases that lack one are refused in one line."""
    require(isinstance(part.higher_is_better, bool), "higher_is_better is neither True nor False")
    require(part.needs <= NEEDS.keys(), f"unknown needs {sorted(part.needs - NEEDS.keys())}")
    for need in part.needs:
        try:
            part.score(without(need))
        except UserError as error:
            require("\n" not in str(error), f"the refusal has more than one line: {error}")
            continue
        raise AssertionError(f"cases without {need} are scored, though it needs them; call self.require(cases)")
