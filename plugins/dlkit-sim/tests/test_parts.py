"""The parts keep dlkit's contract, and their formulas hold where they can be worked out by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from dlkit_sim.laplace import Laplace
from dlkit_sim.sim import implicit_matching

from dlkit.testing import checks

PARTS = (("objectives", "sim"), ("schedules", "laplace"))


@pytest.mark.parametrize("check", [check for kind, name in PARTS for check in checks(kind, name)], ids=repr)
def test_contract(check: Callable[[], None]) -> None:
    check()


def test_sim_by_hand() -> None:
    """d = 3, r = 2 at two of three positions: 6 / sqrt(9 + 16)."""
    shape, mask = (1, 3, 4), torch.tensor([[False, True, True]])
    x, x0_fake = torch.ones(shape), 3.0 * torch.ones(shape)
    assert implicit_matching(x, x0_fake + 3.0, x0_fake, mask, c=4.0).item() == pytest.approx(6.0 / 5.0)


def test_sim_pulls_less_and_less_at_samples_that_are_far_off() -> None:
    """Where d = a and r = a it is a^2 / sqrt(a^2 + c^2): about a^2 / c for small a, and a for large ones."""
    mask, zero = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 1, dtype=torch.float64)
    for a, wanted in ((1e-3, 1e-5), (1e3, 1e3)):
        value = implicit_matching(zero, zero + 2 * a, zero + a, mask, c=0.1).item()
        assert value == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("t", [0.05, 0.3, 0.5, 0.8, 0.95])
def test_laplace_is_its_formula(t: float) -> None:
    schedule = Laplace(centre=0.3, spread=0.7)
    wanted = 0.3 - 0.7 * math.copysign(1.0, 0.5 - t) * math.log(1.0 - 2.0 * abs(t - 0.5))
    assert schedule.log_snr(torch.tensor(t, dtype=torch.float64)).item() == pytest.approx(wanted)


def test_log_snr_is_laplace_distributed() -> None:
    """Half of all times lie within spread * log 2 of the centre."""
    schedule, t = Laplace(centre=-1.0, spread=2.0), (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    near = (schedule.log_snr(t[:-1]) + 1.0).abs() < 2.0 * math.log(2.0)
    assert near.double().mean().item() == pytest.approx(0.5, abs=0.01)
