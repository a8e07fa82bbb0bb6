"""Learning rates over a run."""

import warnings
from typing import Literal

import pytest
import torch

from dlkit.errors import Notice
from dlkit.recipe import Optimizer
from dlkit.training.rates import set_lr, tell_of_warmup


@pytest.mark.parametrize(
    ("decay", "warmup", "end", "factors"),
    [
        ("linear", 0, 0.0, [1.0, 0.75, 0.5, 0.25]),
        ("linear", 0, 0.6, [1.0, 0.9, 0.8, 0.7]),
        ("constant", 0, 0.0, [1.0, 1.0, 1.0, 1.0]),
        ("constant", 2, 0.0, [0.5, 1.0, 1.0, 1.0]),
        ("linear", 4, 0.0, [0.25, 0.375, 0.375, 0.25]),
    ],
)
def test_the_learning_rate(decay: Literal["linear", "constant"], warmup: int, end: float, factors: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    for step, factor in enumerate(factors):
        set_lr(optimizer, Optimizer(warmup=warmup, decay=decay, end=end), 0.2, step, 4)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * factor)


def test_a_warmup_that_outlasts_the_run_is_told() -> None:
    said = r"fit.optimizer.warmup=2500 is longer than these 50 updates, whose learning rate rises to 2e-05 only"
    with pytest.warns(Notice, match=said):
        tell_of_warmup("fit.optimizer", Optimizer(lr=1e-3, warmup=2500), 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_of_warmup("fit.optimizer", Optimizer(warmup=50), 50)
