"""Plaid's network in other types than float32."""

import copy

import pytest
import torch

from dlkit.backbones.plaid import PlaidBackbone, PlaidSpec


def network() -> PlaidBackbone:
    torch.manual_seed(0)
    backbone = PlaidSpec(layers=2, hidden=16, heads=2).build(4, 11)
    for parameter in (backbone.output_linear.weight, backbone.selfcond_linear.weight, backbone.gamma_linear.weight):
        torch.nn.init.normal_(parameter, std=0.3)
    return backbone.eval()


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2e-2), (torch.float64, 1e-6)])
def test_the_output_has_the_type_of_the_network(dtype: torch.dtype, error: float) -> None:
    """Of the largest logit, by so much both types differ."""
    backbone = network()
    x, gamma = torch.randn(3, 7, 4), torch.tensor([-3.0, 0.5, 6.0])
    estimate = torch.randn(3, 7, 4)
    with torch.no_grad():
        wanted, _ = backbone(x, gamma, self_cond=estimate)
        found, features = copy.deepcopy(backbone).to(dtype)(x.to(dtype), gamma, (-1,), self_cond=estimate)
    assert features is not None
    assert (found.dtype, features.dtype) == (dtype, dtype)
    assert float((found.double() - wanted).abs().max() / wanted.abs().max()) < error
