"""The moving average of weights."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dlkit.training.ema import Ema


class Scalar(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_recurrence(decay: float, warmup: bool) -> None:
    module = Scalar(1.0)
    ema, expected = Ema(module, decay, warmup), 1.0
    for n, value in enumerate([3.0, -2.0, 5.0, 5.0, 0.5]):
        module.set(value)
        ema.tick(module)
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        expected = d * expected + (1 - d) * value
        assert float(ema.state()["weight"]) == pytest.approx(expected, rel=1e-6)
    assert float(module.weight.detach()) == 0.5  # the module itself is left alone


def test_a_still_module_is_its_own_average() -> None:
    module = nn.Linear(3, 2)
    ema = Ema(module, 0.999)
    for _ in range(20):
        ema.tick(module)
    for name, parameter in module.named_parameters():
        assert_close(ema.state()[name], parameter.detach())


def test_copy_and_resume() -> None:
    torch.manual_seed(0)
    module, later = nn.Linear(3, 2), [nn.Linear(3, 2) for _ in range(6)]
    whole = Ema(module, 0.9)
    for weights in later:
        whole.tick(weights)
    first, second = Ema(module, 0.9), Ema(nn.Linear(3, 2), 0.9)
    for weights in later[:3]:
        first.tick(weights)
    second.load(first.state(), first.ticks)
    first.state()["weight"].zero_()  # the loaded state is a copy
    for weights in later[3:]:
        second.tick(weights)
    target = nn.Linear(3, 2)
    second.copy_to(target)
    assert torch.equal(target.weight.detach(), whole.state()["weight"])
    assert torch.equal(target.bias.detach(), whole.state()["bias"])
    assert target.weight.requires_grad


def test_tied_weights_are_averaged_once() -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight  # type: ignore[union-attr]
    assert Ema(module, 0.9).state().keys() == {"a.weight", "a.bias", "b.bias"}


def test_the_arithmetic_is_the_originals_to_the_last_bit() -> None:
    """shadow * d + weight * (1 - d), rounded in this order; lerp rounds otherwise after some dozen ticks."""
    torch.manual_seed(0)
    module = nn.Linear(7, 5)
    ema, wanted = Ema(module, 0.97, warmup=False), module.weight.detach().clone()
    for _ in range(50):
        with torch.no_grad():
            module.weight.normal_()
        ema.tick(module)
        wanted.mul_(0.97).add_(module.weight.detach(), alpha=1.0 - 0.97)
    assert torch.equal(ema.state()["weight"], wanted)
