"""Cross-entropy of tokens where logits fill the memory."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

ELEMENTS = 1 << 20
"""Exponentials held at once in the forward pass."""


def cross_entropy(logits: Float[Tensor, "n v"], ids: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log softmax(logits)[id] of every row, in float32 at least.

    Beside the logits nothing as large is made in the forward pass, and their gradient alone in the backward pass (of
    logits in half precision also one in float32); PyTorch's own makes one and two. It can be differentiated once.
    """
    return _CrossEntropy.apply(logits, ids)  # type: ignore[return-value]


class _CrossEntropy(torch.autograd.Function):
    """log sum_v exp(y_v) - y_id, whose gradient is softmax(y) - e_id."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor) -> Tensor:
        rows = max(1, ELEMENTS // logits.shape[1])
        total = torch.cat([_exact(part).logsumexp(1) for part in logits.split(rows)])
        ctx.save_for_backward(logits, ids, total)
        return total - _exact(logits.gather(1, ids[:, None])[:, 0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        logits, ids, total = ctx.saved_tensors
        share = (logits - total[:, None]).exp_()  # of the larger type of the two
        share.scatter_add_(1, ids[:, None], -torch.ones_like(share[:, :1]))
        return share.mul_(grad[:, None]).to(logits.dtype), None


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
