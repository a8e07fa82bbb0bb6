"""Entmax against what defines it."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.kernels.entmax import entmax, onto_simplex
from dlkit.randomness import Stream

SEEDS = st.integers(0, 10**6)
ALPHAS = st.sampled_from([1.1, 1.5, 2.0])


def scores(seed: int, v: int = 7, spread: float = 2.0) -> Tensor:
    return spread * Stream(seed, "entmax").normal(torch.arange(3), v).double()


@given(SEEDS, ALPHAS)
def test_is_a_distribution_that_no_other_beats(seed: int, alpha: float) -> None:
    """p . z + (1 - sum p^alpha) / (alpha (alpha - 1)) is largest there."""
    z, rivals = scores(seed), scores(seed + 1).softmax(-1)
    p = entmax(z, alpha)
    assert p.min() >= 0
    assert_close(p.sum(-1), torch.ones(3).double())
    value = lambda q: (q * z).sum(-1) + (1 - q.pow(alpha).sum(-1)) / (alpha * (alpha - 1))  # noqa: E731
    for other in (rivals, torch.lerp(p, rivals, 1e-3), torch.lerp(p, z.softmax(-1), 1e-3)):
        assert bool((value(p) >= value(other) - 1e-10).all())


@given(SEEDS)
def test_two_is_the_nearest_point_and_one_the_softmax(seed: int) -> None:
    z = scores(seed)
    order = z.sort(-1, descending=True).values
    kept = 1 + torch.arange(1, 8) * order > order.cumsum(-1)
    count = kept.sum(-1, keepdim=True)
    tau = (order.cumsum(-1).gather(-1, count - 1) - 1) / count
    assert_close(entmax(z, 2.0), (z - tau).clamp_min(0), rtol=1e-9, atol=1e-12)
    assert_close(entmax(z, 1.0001), z.softmax(-1), rtol=1e-2, atol=1e-3)


@given(SEEDS, ALPHAS)
def test_distributions_stay(seed: int, alpha: float) -> None:
    p = scores(seed).softmax(-1)
    p = torch.cat((p, torch.eye(7).double()[:1]))  # a corner too
    assert_close(onto_simplex(p, alpha), p, rtol=1e-9, atol=1e-12)


def test_half_precision_is_summed_in_float32() -> None:
    z = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = entmax(z, 1.5)
    assert found.dtype == torch.bfloat16
    assert_close(found, entmax(z.double(), 1.5).bfloat16(), rtol=1e-2, atol=1e-6)
