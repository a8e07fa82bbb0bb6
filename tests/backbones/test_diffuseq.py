"""The DiffuSeq network beyond what the original's arrays say: shapes, taps, dropout, gradients, settings."""

import math

import pytest
import torch
from torch.testing import assert_close

from dlkit import backbones
from dlkit.backbones.diffuseq import DiffuseqBackbone, DiffuseqSpec, attend, sinusoid
from dlkit.errors import UserError
from dlkit.part import from_spec

SMALL = DiffuseqSpec(layers=3, hidden=8, heads=2, ff=16, time_dim=6, max_positions=10)


def network(spec: DiffuseqSpec = SMALL, dim: int = 4) -> DiffuseqBackbone:
    torch.manual_seed(0)
    return spec.build(dim, 11)


def inputs(dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 5, dim), torch.tensor([3.0, 800.0]).double()


def test_sinusoid_by_hand() -> None:
    found = sinusoid(torch.tensor([0.0, 2.5]), 5)
    assert found.dtype == torch.float32
    rate = 10000.0 ** (-1 / 2)
    wanted = [math.cos(2.5), math.cos(2.5 * rate), math.sin(2.5), math.sin(2.5 * rate), 0.0]
    assert_close(found, torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], wanted]))


@pytest.mark.parametrize("taps", [(0,), (1,), (-3,), (2, 0), (-1, 1, -1)])
def test_taps(taps: tuple[int, ...]) -> None:
    backbone, (x, time) = network().eval(), inputs()
    seen = []
    for layer in backbone.input_transformers["layer"]:  # type: ignore[union-attr]
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
    output, features = backbone(x, time, taps)
    assert torch.equal(features, torch.cat([seen[tap] for tap in taps], dim=-1))
    assert features.shape == (2, 5, len(taps) * backbone.feature_dim) == (2, 5, len(taps) * 8)
    alone, nothing = backbone(x, time)
    assert nothing is None
    assert torch.equal(alone, output)


@pytest.mark.parametrize("tap", [3, -4])
def test_a_tap_that_is_not_there(tap: int) -> None:
    backbone, (x, time) = network(), inputs()
    with pytest.raises(IndexError):
        backbone(x, time, (0, tap))


def test_rows_do_not_see_each_other_and_time_matters() -> None:
    backbone, (x, time) = network().eval(), inputs()
    together = backbone(x, time)[0]
    assert_close(backbone(x[1:], time[1:])[0], together[1:])
    assert not torch.allclose(backbone(x, time + 100)[0], together, atol=1e-4)


def test_dropout_only_while_training() -> None:
    backbone, (x, time) = network(), inputs()
    assert not torch.equal(backbone(x, time)[0], backbone(x, time)[0])
    backbone.eval()
    assert torch.equal(backbone(x, time)[0], backbone(x, time)[0])
    still = network(SMALL.replace(dropout=0.0, attention_dropout=0.0))
    assert torch.equal(still(x, time)[0], still(x, time)[0])


def test_every_parameter_gets_a_gradient() -> None:
    backbone, (x, time) = network(), inputs()
    backbone(x, time)[0].square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("key.bias"):  # a constant added to all keys leaves a softmax as it is
            assert parameter.grad.abs().sum() > 0, name


def test_equal_widths_need_no_projection() -> None:
    backbone = network(dim=8)
    assert not any("proj" in name for name in backbone.state_dict())
    assert backbone(*inputs(8))[0].shape == (2, 5, 8)


def test_half_precision_stays_half() -> None:
    backbone, (x, time) = network().bfloat16().eval(), inputs()
    assert backbone(x.bfloat16(), time)[0].dtype == torch.bfloat16


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UserError, match="hidden=10 is not a multiple of heads=4"):
        from_spec(backbones.registry, {"name": "diffuseq", "hidden": 10, "heads": 4})


@pytest.mark.parametrize("training", [True, False], ids=["written out", "fused"])
def test_attention_in_bf16_agrees_with_fp64(training: bool) -> None:
    """Values and gradients; while training on a CPU the products are written out, see ``attend``."""
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    q, k, v = exact
    wanted = (q @ k.mT / 2).softmax(-1) @ v  # 2 = sqrt(c)
    with torch.set_grad_enabled(training):
        found = attend(*rounded, dropout=0.0)
    assert found.dtype == torch.bfloat16
    assert_close(found.double(), wanted, rtol=0.02, atol=0.03)
    if training:
        grads = torch.autograd.grad(found.square().sum(), rounded)
        for grad, twin in zip(grads, torch.autograd.grad(wanted.square().sum(), exact), strict=True):
            assert_close(grad.double(), twin, rtol=0.05, atol=0.1)


def test_written_out_attention_drops_weights_at_their_rate() -> None:
    """With equal scores each kept weight is 1 / (l (1 - p)), so the mean of the mixed ones stays 1 for v = 1."""
    torch.manual_seed(0)
    q = torch.zeros(1, 1, 200, 4, dtype=torch.bfloat16, requires_grad=True)
    mixed = attend(q, q, torch.ones_like(q), dropout=0.25).detach().float()
    assert mixed.std() > 0.01
    assert float(mixed.mean()) == pytest.approx(1.0, abs=0.03)
