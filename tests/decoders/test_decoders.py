"""States to tokens."""

import pytest
import torch

from dlkit import decoders
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.spaces.embedding import EmbeddingSpace, EmbeddingSpec


@pytest.fixture
def space() -> EmbeddingSpace:
    torch.manual_seed(0)
    return EmbeddingSpec(dim=3).build(50)


def test_nearest_is_brute_force(space: EmbeddingSpace) -> None:
    x = 2 * torch.randn(4, 6, 3)
    distances = torch.cdist(x.double(), space.table.detach().double().expand(4, 50, 3))
    assert torch.equal(from_spec(decoders.registry, "nearest").decode(x, space), distances.argmin(-1))


def test_linear_head_is_the_highest_logit(space: EmbeddingSpace) -> None:
    x = 2 * torch.randn(4, 6, 3)
    with torch.no_grad():
        space.lm_head.bias.normal_()
    logits = x @ space.table.T + space.lm_head.bias
    assert torch.equal(from_spec(decoders.registry, "linear_head").decode(x, space), logits.argmax(-1))


def test_an_embedding_is_its_own_token_to_nearest_alone(space: EmbeddingSpace) -> None:
    ids = torch.arange(50)[None]
    assert torch.equal(from_spec(decoders.registry, "nearest").decode(space.embed(ids), space), ids)
    assert not torch.equal(from_spec(decoders.registry, "linear_head").decode(space.embed(ids), space), ids)


def test_an_unknown_decoder() -> None:
    with pytest.raises(UserError, match="did you mean 'nearest'"):
        from_spec(decoders.registry, "neerest")
