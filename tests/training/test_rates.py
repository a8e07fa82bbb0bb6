"""Learning rates over a run."""

import pytest
import torch

from dlkit.training.rates import set_lr


@pytest.mark.parametrize(
    ("decay", "warmup", "factors"),
    [
        ("linear", 0, [1.0, 0.75, 0.5, 0.25]),
        ("constant", 0, [1.0, 1.0, 1.0, 1.0]),
        ("constant", 2, [0.5, 1.0, 1.0, 1.0]),
        ("linear", 4, [0.25, 0.375, 0.375, 0.25]),
    ],
)
def test_the_learning_rate(decay: str, warmup: int, factors: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    for step, factor in enumerate(factors):
        set_lr(optimizer, 0.2, step, 4, decay, warmup)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * factor)
