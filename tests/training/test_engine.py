"""Devices, precision and optimiser steps."""

import pytest
import torch
from torch import nn

from dlkit.errors import UserError
from dlkit.recipe import Optimizer, Run
from dlkit.training.engine import TorchEngine, pick_device


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:77", "meta", "", "cpu:x"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no device .*; use run.device=auto or cpu") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


def test_the_optimizers_settings() -> None:
    engine, settings = TorchEngine(Run(device="cpu")), Optimizer(betas=(0.1, 0.9), eps=1e-6, weight_decay=0.2)
    group = engine.optimizer(nn.Linear(2, 2).parameters(), settings, 0.3).param_groups[0]
    assert {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 0.3,
        "betas": (0.1, 0.9),
        "eps": 1e-6,
        "weight_decay": 0.2,
    }


@pytest.mark.parametrize(("clip", "left"), [(None, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_a_step_clips_tells_the_norm_and_clears(clip: float | None, left: float) -> None:
    engine, weight = TorchEngine(Run(device="cpu")), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    engine.backward((weight * torch.tensor([3.0, 4.0])).sum())
    assert float(engine.step(optimizer, clip)) == pytest.approx(5.0)
    assert float(weight.detach().norm()) == pytest.approx(left, rel=1e-5)
    assert weight.grad is None


def test_precision() -> None:
    x = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with TorchEngine(Run(device="cpu", precision=precision)).autocast():  # type: ignore[arg-type]
            assert (x @ x).dtype == dtype
