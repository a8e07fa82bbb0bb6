"""Learning rates over a run."""

import torch


def set_lr(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int, decay: str, warmup: int) -> None:
    """lr min(1, (step + 1) / warmup), times 1 - step / steps if ``decay`` is "linear"; "constant" does not fall."""
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if decay == "linear":
        factor *= 1.0 - step / steps
    for group in optimizer.param_groups:
        group["lr"] = lr * factor
