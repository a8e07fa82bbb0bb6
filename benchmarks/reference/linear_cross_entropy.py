"""Cross-entropy of tokens under a linear layer."""

from torch import Tensor
from torch.nn import functional as F


def linear_cross_entropy(x: Tensor, table: Tensor, bias: Tensor, ids: Tensor) -> Tensor:
    """-log softmax(x table^T + bias)[id] of every row."""
    return F.cross_entropy(F.linear(x, table, bias), ids, reduction="none")
