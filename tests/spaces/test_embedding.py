"""The embedding space."""

import pytest
import torch
from torch.testing import assert_close

from dlkit import spaces
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.spaces.embedding import EmbeddingSpec, sigma_0_noised


def test_embed_and_logits_share_one_table() -> None:
    space = EmbeddingSpec(dim=4).build(7)
    assert (space.vocab_size, space.dim, space.table.shape) == (7, 4, (7, 4))
    ids = torch.tensor([[0, 6], [3, 3]])
    x = space.embed(ids)
    assert torch.equal(x, space.table[ids])
    assert_close(space.logits(x), x @ space.table.T + space.lm_head.bias)
    with torch.no_grad():
        space.table[3] = 5.0
    assert (space.embed(ids)[1] == 5.0).all()
    assert (space.lm_head.weight[3] == 5.0).all()
    assert len(list(space.parameters())) == 2  # the table once, and the bias


def test_logits_become_the_mean_of_the_table() -> None:
    space = EmbeddingSpec(dim=4).build(9).double().requires_grad_(False)
    ids = torch.tensor([[0, 3, 8], [5, 5, 1]])
    sure = 1e4 * torch.nn.functional.one_hot(ids, 9).double()
    assert torch.equal(space.mean(sure), space.table[ids])
    logits = 3 * torch.linspace(-1, 1, 54).double().sin().view(2, 3, 9)
    mean = torch.einsum("blv,vd->bld", logits.exp() / logits.exp().sum(-1, keepdim=True), space.table)
    assert_close(space.mean(logits), mean)
    assert_close(space.mean(logits + 1e5), mean, rtol=1e-9, atol=1e-9)  # logits count from anywhere


def test_the_table_starts_standard_normal() -> None:
    torch.manual_seed(0)
    table = EmbeddingSpec(dim=64).build(500).table.detach()
    assert float(table.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(table.std()) == pytest.approx(1.0, abs=0.03)


def test_sigma_0_noise() -> None:
    x0, eps = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert_close(sigma_0_noised(x0, 0.121, eps), x0 + 0.121 * eps)
    assert torch.equal(sigma_0_noised(x0, 0.0, eps), x0)


def test_a_width_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match="dim"):
        from_spec(spaces.registry, {"name": "embedding", "dim": 0})
