"""The type that sums are taken in."""

import torch
from torch import Tensor


def wide_type(*tensors: Tensor) -> torch.dtype:
    """float32, or float64 if one of the tensors is."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
