"""Validation during a run."""

from pathlib import Path

import pytest

from dlkit.errors import UserError
from dlkit.generator import load_teacher
from dlkit.metrics.bleu import Bleu
from dlkit.metrics.copy_rate import CopyRate
from dlkit.metrics.self_bleu import SelfBleu
from dlkit.training.data import HeldOut
from dlkit.training.validation import check, validate


def test_it_scores_what_the_model_writes(teacher: Path, data: Path) -> None:
    model, held_out = load_teacher(teacher), HeldOut.read(data, "valid", 4)
    score, health = validate(model, held_out, Bleu(), 2, 3, seed=5)
    texts = model.generate(held_out.sources, num_samples=2, steps=3, seed=5)
    assert score == Bleu().score(held_out.cases(texts))
    assert health.keys() == {"pad", "empty", "repetition", "copy", "unique"}
    assert all(0.0 <= value <= 1.0 for value in health.values())


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
