"""Validation during a run."""

from pathlib import Path
from typing import Any

import pytest

from dlkit.errors import Notice, UserError
from dlkit.generator import load_teacher
from dlkit.metrics._base import Cases
from dlkit.metrics.bleu import Bleu
from dlkit.metrics.copy_rate import CopyRate
from dlkit.metrics.self_bleu import SelfBleu
from dlkit.training import validation
from dlkit.training.data import HeldOut
from dlkit.training.validation import check, validate


def test_it_scores_what_the_model_writes(teacher: Path, data: Path) -> None:
    model, held_out = load_teacher(teacher), HeldOut.read(data, "valid", 4)
    score, values = validate(model, held_out, Bleu(), 2, 3, seed=5)
    cases = held_out.cases(model.generate(held_out.sources, num_samples=2, steps=3, seed=5))
    assert score == values["bleu"] == Bleu().score(cases)
    assert values["self_bleu"] == SelfBleu().score(cases)
    assert {"pad", "empty", "repetition", "copy", "unique"} <= values.keys()
    assert all(0.0 <= value <= 1.0 for value in values.values())


def test_diversity_and_validity_stand_beside_quality_where_they_can_be_had(teacher: Path, data: Path) -> None:
    """Samples are compared if there are several, and correctness is looked up if there is a grammar."""
    model, held_out = load_teacher(teacher), HeldOut(HeldOut.read(data, "valid", 2).pairs, None)
    several = validate(model, held_out, Bleu(), 2, 1, 0)[1].keys()
    alone = validate(model, held_out, Bleu(), 1, 1, 0)[1].keys()
    assert {"self_bleu", "div_4"} <= several - alone
    assert "exact_validity" not in several
    known = HeldOut.read(data, "valid", 2)
    assert {"exact_validity", "distinct_valid"} <= validate(model, known, Bleu(), 2, 1, 0)[1].keys()


def test_the_metric_that_chooses_keeps_its_settings(teacher: Path, data: Path) -> None:
    """It is logged as it was asked for, not as the usual one of the same name."""
    model, held_out = load_teacher(teacher), HeldOut.read(data, "valid", 2)

    class Constant(Bleu):
        def score(self, cases: Cases) -> float:
            return 0.25

    score, values = validate(model, held_out, Constant(), 2, 1, 0)
    assert score == values["bleu"] == 0.25


def test_it_is_the_same_every_time(teacher: Path, data: Path) -> None:
    model, held_out = load_teacher(teacher), HeldOut.read(data, "valid", 4)
    assert validate(model, held_out, Bleu(), 1, 2, 0) == validate(model, held_out, Bleu(), 1, 2, 0)


def test_pad_is_the_share_of_padding(teacher: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, held_out = load_teacher(teacher), HeldOut.read(data, "valid", 2)
    tok = model.tokenizer
    rows = [[[tok.cls_id, 9, tok.sep_id, tok.pad_id]], [[tok.pad_id] * 4]]
    monkeypatch.setattr(model, "generate_tokens", lambda *args, **kwargs: rows)
    score, health = validate(model, held_out, CopyRate(), 1, None, 0)
    assert score == 0.0
    assert health["pad"] == 5 / 8
    assert health["empty"] == 0.5


def test_a_metric_whose_needs_are_not_met_is_refused(data: Path) -> None:
    held_out = HeldOut.read(data, "valid", 2)
    check(held_out, SelfBleu(), 2)
    with pytest.raises(UserError, match="metric 'self_bleu' needs two or more samples"):
        check(held_out, SelfBleu(), 1)


@pytest.mark.parametrize("wrong", [RuntimeError("no such file"), UserError("not today"), None])
def test_a_metric_that_nobody_asked_for_stops_nothing(
    wrong: Exception | None, teacher: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out with a notice that names it; a number that is none is left out as well."""

    class Broken(Bleu):
        registered_name = "broken"

        def score(self, cases: Cases) -> Any:
            if wrong is None:
                return None
            raise wrong

    class Endless(Bleu):
        registered_name = "endless"

        def score(self, cases: Cases) -> float:
            return float("inf")

    model, held_out = load_teacher(teacher), HeldOut.read(data, "valid", 2)
    monkeypatch.setattr(validation, "usual_metrics", lambda sources: [Broken(), Endless(), SelfBleu()])
    with pytest.warns(Notice, match="without metric 'broken'"):
        _, values = validate(model, held_out, Bleu(), 2, 1, 0)
    assert {"bleu", "self_bleu"} <= values.keys()
    assert not {"broken", "endless"} & values.keys()
