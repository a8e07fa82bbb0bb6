"""Noising of a batch."""

import torch
from torch import Tensor


def noising(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, anchor: Tensor, mask: Tensor) -> Tensor:
    """alpha x0 + sigma eps, its given positions put back."""
    x_t = alpha[:, None, None] * x0 + sigma[:, None, None] * eps
    return torch.where(mask[..., None], x_t, anchor)
