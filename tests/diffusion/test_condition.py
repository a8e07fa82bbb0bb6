"""Partial noising."""

import torch

from dlkit.diffusion.condition import Condition


def test_given_positions_are_the_anchor_and_free_ones_stay() -> None:
    x, anchor = torch.randn(2, 3, 4), torch.randn(2, 3, 4).double()
    mask = torch.tensor([[True, False, True], [False, False, True]])
    held = Condition(anchor, mask).apply(x)
    assert held.dtype == x.dtype
    assert torch.equal(held[mask], x[mask])
    assert torch.equal(held[~mask], anchor.float()[~mask])


def test_gradients_reach_free_positions_only() -> None:
    x = torch.randn(1, 2, 3, requires_grad=True)
    Condition(torch.zeros(1, 2, 3), torch.tensor([[False, True]])).apply(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == [[0.0] * 3, [1.0] * 3]
