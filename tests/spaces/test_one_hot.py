"""The one-hot space against the unit matrix that it does without."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.testing import assert_close

from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.errors import UserError
from dlkit.kernels.nearest_token import nearest_token
from dlkit.spaces.one_hot import OneHotSpec
from live_memory import LiveMemory

V = 9
SPACE = OneHotSpec().build(V)
IDS = torch.tensor([[0, 8, 3], [3, 3, 1]])


def test_states_are_rows_of_the_unit_matrix() -> None:
    assert torch.equal(SPACE.embed(IDS), torch.eye(V)[IDS])
    assert torch.equal(SPACE.state(4), torch.eye(V)[4])
    assert (SPACE.dim, SPACE.vocab_size, OneHotSpec().width(30522)) == (V, V, 30522)
    assert SPACE.state_dict() == {}
    assert SPACE.double().embed(IDS).dtype == torch.float64
    SPACE.float()


@given(seed=st.integers(0, 10_000), size=st.floats(0.01, 100.0))
def test_nearest_in_distance_and_in_angle(seed: int, size: float) -> None:
    x = size * torch.randn(2, 5, V, generator=torch.Generator().manual_seed(seed))
    for metric in ("l2", "cosine"):
        assert torch.equal(SPACE.nearest(x, metric), nearest_token(x, torch.eye(V), metric=metric))
    assert torch.equal(SPACE.rounded(x), torch.eye(V)[x.argmax(-1)])


@given(seed=st.integers(0, 10_000), alpha=st.floats(0.0, 1.0), sigma=st.floats(0.05, 2.0))
def test_evidence_is_a_likelihood(seed: int, alpha: float, sigma: float) -> None:
    x = torch.randn(2, 3, V, generator=torch.Generator().manual_seed(seed)).double()
    levels = [torch.full((2, 1, 1), level, dtype=torch.float64) for level in (alpha, sigma)]
    likelihood = Normal(alpha * torch.eye(V).double(), sigma).log_prob(x[..., None, :]).sum(-1)
    assert_close(SPACE.evidence(x, *levels).softmax(-1), likelihood.softmax(-1))


def test_logits_of_a_distribution_are_its_logarithm() -> None:
    p = torch.randn(2, 3, V).softmax(-1)
    assert_close(SPACE.logits(p).softmax(-1), p)
    assert_close(SPACE.mean(SPACE.logits(p)), p)
    corners = SPACE.logits(SPACE.embed(IDS))
    assert corners.isfinite().all()
    assert_close(corners.softmax(-1), SPACE.embed(IDS))
    assert SPACE.logits(torch.tensor([[[-1.0, 0.2, -3.0] + [0.0] * 6]])).argmax() == 1


def test_noise_takes_the_text_in() -> None:
    """No second state is made: what is alive is the noise itself, and numbers of each position."""
    tokens, length = 1000, 16
    space, ids = OneHotSpec().build(tokens), torch.randint(1000, (4, length))
    eps, alpha, sigma = torch.randn(4, length, tokens), torch.rand(4, 1), torch.rand(4, 1)
    wanted = alpha[..., None] * space.embed(ids) + sigma[..., None] * eps
    with LiveMemory() as memory:
        x_t = space.noised(ids, alpha, sigma, eps)
    assert x_t.data_ptr() == eps.data_ptr()
    assert_close(x_t, wanted)
    assert memory.peak < 1.02 * eps.numel() * 4


def test_it_has_no_mean_to_learn() -> None:
    with pytest.raises(UserError, match="no mean to learn; choose process=gaussian"):
        SPACE.learn_mean()
    assert MeanShift.learns_mean
