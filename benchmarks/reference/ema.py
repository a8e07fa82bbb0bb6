"""A moving average of weights."""

import torch
from torch import Tensor


@torch.no_grad()
def ema(shadow: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """shadow <- decay shadow + (1 - decay) weight, one tensor after the other."""
    for average, weight in zip(shadow, weights, strict=True):
        average.mul_(decay).add_(weight, alpha=1 - decay)
