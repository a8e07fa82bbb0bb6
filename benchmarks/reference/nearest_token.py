"""The nearest row of a table, from all distances."""

import torch
from torch import Tensor


def nearest_token(x: Tensor, table: Tensor) -> Tensor:
    """argmin_v |x - table_v|."""
    return torch.cdist(x, table).argmin(-1)
