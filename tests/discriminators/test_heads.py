"""Every head keeps its contract; each computes what its docstring says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from dlkit import discriminators
from dlkit.discriminators._base import WithCondition, masked_mean
from dlkit.discriminators.attention_pool import AttentionPool
from dlkit.discriminators.conv import Conv
from dlkit.discriminators.mean_pool import MeanPool
from dlkit.discriminators.parameter_free import ParameterFree
from dlkit.discriminators.token import Token
from dlkit.errors import UserError
from dlkit.part import from_spec

H = 4
MASK = torch.tensor([[True, False, True], [False, False, True], [False, False, False]])
SPECS = [
    *discriminators.names(),
    {"name": "token", "hidden": 6},
    {"name": "conv", "layers": 2, "kernel": 5, "width": 3},
]
every_head = pytest.mark.parametrize("spec", SPECS, ids=str)


def build(spec: object, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return from_spec(discriminators.registry, spec).build(H)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(4, 6, generator=generator) < 0.6
    mask[0], mask[-1] = True, False
    return torch.randn(4, 6, H, generator=generator), mask


@every_head
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_what_stands_at_given_positions_changes_no_logit(spec: object, seed: int) -> None:
    head, (features, mask) = build(spec), batch(seed)
    logits = head(features, mask)
    assert logits.shape in (mask.shape[:1], mask.shape)
    assert torch.isfinite(logits).all()
    other = torch.where(mask[..., None], features, 100 - features)
    assert torch.equal(head(other, mask), logits)
    if logits.ndim == 2:
        assert not logits[~mask].any()


@every_head
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), extra=st.integers(1, 3))
def test_more_given_positions_and_other_samples_change_no_logit(spec: object, seed: int, extra: int) -> None:
    head, (features, mask) = build(spec), batch(seed)
    logits = head(features, mask)
    longer = head(F.pad(features, (0, 0, 0, extra), value=3.0), F.pad(mask, (0, extra)))
    assert_close(longer[..., :6] if logits.ndim == 2 else longer, logits)
    assert_close(head(features[2:3], mask[2:3]), logits[2:3])


@every_head
def test_a_head_learns_and_its_features_do(spec: object) -> None:
    head, (features, mask) = build(spec), batch(0)
    features.requires_grad_()
    head(features, mask).square().sum().backward()
    assert features.grad is not None
    assert features.grad[mask].any(-1).any()
    learns = from_spec(discriminators.registry, spec).learns
    assert learns == any(parameter.grad is not None for parameter in head.parameters())


def test_mean_pool_by_hand() -> None:
    net, features = MeanPool().build(H), torch.randn(3, 3, H)
    means = torch.stack((features[0, [0, 2]].mean(0), features[1, 2], torch.zeros(H)))
    assert_close(masked_mean(features, MASK), means)
    assert_close(net(features, MASK), F.layer_norm(means, (H,)) @ net.logit.weight[0] + net.logit.bias)  # type: ignore[operator, index]


def test_attention_pool_by_hand() -> None:
    net, features = AttentionPool(queries=2).build(H), torch.randn(3, 3, H)
    h = F.layer_norm(features, (H,))
    pooled = torch.zeros(3, 2, H)
    for i, rows in enumerate(MASK):
        if rows.any():
            scores = h[i][rows] @ net.query.weight.T / H**0.5  # type: ignore[union-attr, operator]
            pooled[i] = scores.softmax(0).T @ h[i][rows]
    assert_close(net(features, MASK), pooled.flatten(1) @ net.logit.weight[0] + net.logit.bias)  # type: ignore[operator, index]


def test_token_by_hand() -> None:
    net, features = Token().build(H), torch.randn(3, 3, H)
    wanted = (F.layer_norm(features, (H,)) @ net.logit.weight[0] + net.logit.bias) * MASK  # type: ignore[operator, index]
    assert_close(net(features, MASK), wanted)


def test_the_reach_of_conv() -> None:
    """Two layers of kernel 3 and the last convolution: three positions to either side."""
    net, mask = Conv(width=5, kernel=3, layers=2).build(H), torch.ones(1, 12, dtype=torch.bool)
    features = torch.randn(1, 12, H, requires_grad=True)
    (grad,) = torch.autograd.grad(net(features, mask)[0, 5], features)
    assert grad[0].any(-1).nonzero().flatten().tolist() == [2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(UserError, match="kernel=4 has no middle; give an odd number"):
        from_spec(discriminators.registry, {"name": "conv", "kernel": 4})


def test_parameter_free_is_the_mean_over_channels() -> None:
    net, features = ParameterFree().build(H), torch.randn(3, 3, H)
    assert not list(net.parameters())
    assert_close(net(features, MASK), features.mean(-1) * MASK)


def test_the_condition_is_the_mean_over_given_positions() -> None:
    """Beside each position's own features; the head then depends on the source, and still on no more than its mean."""
    torch.manual_seed(0)
    net, features = WithCondition(Token().build(2 * H)), torch.randn(3, 3, H)
    both = torch.cat((features, masked_mean(features, ~MASK)[:, None].expand(3, 3, H)), dim=-1)
    assert_close(net(features, MASK), net.head(both, MASK))
    assert not torch.equal(net(features + ~MASK[..., None] * 1.0, MASK), net(features, MASK))
    everything = torch.ones_like(MASK)
    assert torch.isfinite(net(features, everything)).all()
