"""States to tokens."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlkit import decoders
from dlkit.decoders import _base
from dlkit.decoders._base import Decoder
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.randomness import Stream
from dlkit.spaces.embedding import EmbeddingSpace, EmbeddingSpec

EVERY: list[dict[str, Any]] = [
    {"name": "linear_head"},
    {"name": "logits"},
    {"name": "logits", "temperature": 0.5, "top_k": 7, "top_p": 0.9},
    {"name": "nearest"},
    {"name": "nearest", "metric": "cosine"},
]


@pytest.fixture
def space() -> EmbeddingSpace:
    torch.manual_seed(0)
    made = EmbeddingSpec(dim=3).build(50).requires_grad_(False)
    made.lm_head.bias.normal_()
    return made


def decoder(spec: Any) -> Decoder:
    return from_spec(decoders.registry, spec)


def states(*shape: int, seed: int = 1) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniforms(b: int, length: int, seed: int = 0) -> Tensor:
    return Stream(seed, "decode").uniform(torch.arange(b), length)


def test_nearest_is_brute_force(space: EmbeddingSpace) -> None:
    x = states(4, 6, 3)
    distances = torch.cdist(x.double(), space.table.double().expand(4, 50, 3))
    assert torch.equal(decoder("nearest").decode(x, space), distances.argmin(-1))


def test_nearest_in_angle_is_brute_force(space: EmbeddingSpace) -> None:
    x = states(4, 6, 3)
    cosines = torch.cosine_similarity(x.double()[..., None, :], space.table.double(), dim=-1)
    chosen = decoder({"name": "nearest", "metric": "cosine"}).decode(x, space)
    assert torch.equal(chosen, cosines.argmax(-1))
    assert not torch.equal(chosen, decoder("nearest").decode(x, space))


def test_linear_head_is_the_highest_logit(space: EmbeddingSpace) -> None:
    x = states(4, 6, 3)
    logits = x @ space.table.T + space.lm_head.bias
    assert torch.equal(decoder("linear_head").decode(x, space), logits.argmax(-1))


def test_an_embedding_is_its_own_token_to_nearest_alone(space: EmbeddingSpace) -> None:
    ids = torch.arange(50)[None]
    for metric in ("l2", "cosine"):
        assert torch.equal(decoder({"name": "nearest", "metric": metric}).decode(space.embed(ids), space), ids)
    assert not torch.equal(decoder("linear_head").decode(space.embed(ids), space), ids)


@settings(max_examples=30)
@given(st.sampled_from([0.0, 1e-300, 1e-9]), st.integers(0, 10**6))
def test_without_heat_logits_is_linear_head(temperature: float, seed: int) -> None:
    torch.manual_seed(seed)
    space, x = EmbeddingSpec(dim=4).build(30).requires_grad_(False), states(3, 5, 4, seed=seed)
    cold = decoder({"name": "logits", "temperature": temperature}).decode(x, space, uniforms(3, 5, seed))
    assert torch.equal(cold, decoder("linear_head").decode(x, space))


def test_logits_draws_what_the_uniform_of_the_position_says(space: EmbeddingSpace) -> None:
    x, u = states(4, 6, 3), uniforms(4, 6)
    mass = space.logits(x).double().softmax(-1).cumsum(-1)
    drawn = decoder("logits").decode(x, space, u)
    assert torch.equal(drawn, (mass <= u[..., None]).sum(-1))
    assert not torch.equal(drawn, decoder("logits").decode(x, space, uniforms(4, 6, seed=1)))


def test_logits_without_uniforms(space: EmbeddingSpace) -> None:
    with pytest.raises(ValueError, match="needs u"):
        decoder("logits").decode(states(1, 2, 3), space)


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_batch_mates_and_parts_do_not_matter(
    spec: dict[str, Any], space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, u, part = states(4, 6, 3), uniforms(4, 6), decoder(spec)
    together = part.decode(x, space, u)
    alone = [part.decode(x[k : k + 1], space, u[k : k + 1]) for k in range(4)]
    assert torch.equal(together, torch.cat(alone))
    assert part.decode(x[:0], space, u[:0]).shape == (0, 6)
    for elements in (1, 350):  # one position, seven positions
        monkeypatch.setattr(_base, "ELEMENTS", elements)
        assert torch.equal(part.decode(x, space, u), together)


class OtherSpace:
    """Another space, with only what decoders may ask for; it notes how many positions it was asked of."""

    def __init__(self, inner: EmbeddingSpace) -> None:
        self.vocab_size, self.inner = inner.vocab_size, inner
        self.asked: list[int] = []

    def nearest(self, x: Tensor, metric: Any = "l2") -> Tensor:
        return self.inner.nearest(x, metric)

    def logits(self, x: Tensor) -> Tensor:
        self.asked.append(x.shape[0] * x.shape[1])
        return self.inner.logits(x)


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_little_is_asked_of_a_space_and_logits_are_few_at_a_time(
    spec: dict[str, Any], space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, u, part, other = states(4, 6, 3), uniforms(4, 6), decoder(spec), OtherSpace(space)
    expected = part.decode(x, space, u)
    monkeypatch.setattr(_base, "ELEMENTS", 350)
    assert torch.equal(part.decode(x, other, u), expected)
    assert other.asked == ([] if spec["name"] == "nearest" else [7, 7, 7, 3])


def test_an_unknown_decoder() -> None:
    with pytest.raises(UserError, match="did you mean 'nearest'"):
        from_spec(decoders.registry, "neerest")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "nearest", "metric": "l1"},
        {"name": "logits", "temperature": -0.1},
        {"name": "logits", "top_k": 0},
        {"name": "logits", "top_p": 0.0},
        {"name": "logits", "top_p": 1.1},
    ],
    ids=str,
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=list(wrong)[1]):
        decoder(wrong)
