"""Learning rates over a run."""

import torch

from dlkit.recipe import Optimizer


def set_lr(optimizer: torch.optim.Optimizer, settings: Optimizer, lr: float, step: int, steps: int) -> None:
    """lr min(1, (step + 1) / warmup), times 1 - (1 - end) step / steps if ``decay`` is "linear"."""
    factor = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.decay == "linear":
        factor *= 1.0 - (1.0 - settings.end) * step / steps
    for group in optimizer.param_groups:
        group["lr"] = lr * factor
