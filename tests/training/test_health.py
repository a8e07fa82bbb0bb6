"""Signs of a run going wrong."""

import pytest
import torch

from dlkit.training.health import text_health, time_bins


def test_time_bins() -> None:
    t = torch.tensor([0.0, 0.2, 0.25, 0.9, 1.0]).double()
    value = torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0], requires_grad=True)
    assert time_bins(value, t) == {"t0.00-0.25": 2.0, "t0.25-0.50": 5.0, "t0.75-1.00": 8.0}


def test_text_health() -> None:
    found = text_health(["The cat", "a dog"], [["the  cat", "the the cat"], ["", ""]])
    assert found == {
        "empty": 0.5,
        "repetition": pytest.approx(1 / 3),  # one of the three words that have a word before them
        "copy": 0.25,
        "unique": 0.75,
    }


def test_healthy_texts() -> None:
    found = text_health(["a"], [["b c", "c b"]])
    assert found == {"empty": 0.0, "repetition": 0.0, "copy": 0.0, "unique": 1.0}
