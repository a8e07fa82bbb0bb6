"""Learning rates over a run."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.recipe import Optimizer


def groups(module: nn.Module, scale: Callable[[str, Tensor], float]) -> list[dict[str, Any]]:
    """The parameters of a module, those together whose learning rate has the same ``scale``."""
    found: defaultdict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        found[scale(name, parameter)].append(parameter)
    return [{"params": parameters, "scale": share} for share, parameters in found.items()]


def set_lr(optimizer: torch.optim.Optimizer, settings: Optimizer, lr: float, step: int, steps: int) -> None:
    """lr min(1, (step + 1) / warmup), times 1 - (1 - end) step / steps if ``decay`` is "linear".

    A group of parameters with a ``scale`` has that share of it.
    """
    factor = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.decay == "linear":
        factor *= 1.0 - (1.0 - settings.end) * step / steps
    for group in optimizer.param_groups:
        group["lr"] = lr * factor * group.get("scale", 1.0)
