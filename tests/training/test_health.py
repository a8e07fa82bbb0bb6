"""Signs of a run going wrong."""

import pytest
import torch

from dlkit.errors import UserError
from dlkit.training.health import largest, refuse_nan, text_health, time_bins


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_weight_that_is_lost_is_found(value: float) -> None:
    weights = {"a": torch.ones(3), "b": torch.tensor([[1.0, -2.0], [0.5, 0.0]]), "c": torch.tensor(3.0)}
    assert largest(weights) == {"the largest averaged weight": 3.0}
    weights["b"][1, 0] = value
    with pytest.raises(UserError, match=r"step 4: the largest averaged weight is (nan|inf); lower the learning rate"):
        refuse_nan(largest(weights), 4, "generator.clip")
