"""Learning rates over a run."""

import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.errors import Notice
from dlkit.recipe import Optimizer


def groups(module: nn.Module, scale: Callable[[str, Tensor], float]) -> list[dict[str, Any]]:
    """The parameters of a module, those together whose learning rate has the same ``scale``."""
    found: defaultdict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        found[scale(name, parameter)].append(parameter)
    return [{"params": parameters, "scale": share} for share, parameters in found.items()]


def tell_of_warmup(where: str, settings: Optimizer, steps: int) -> None:
    """A :class:`dlkit.errors.Notice` if a run of so many updates ends before its learning rate has risen."""
    if settings.warmup > steps:
        warnings.warn(
            f"{where}.warmup={settings.warmup} is longer than these {steps} updates, whose learning rate rises to "
            f"{settings.lr * steps / settings.warmup:.2g} only; set {where}.warmup={steps // 10}",
            Notice,
            stacklevel=2,
        )


def set_lr(optimizer: torch.optim.Optimizer, settings: Optimizer, lr: float, step: int, steps: int) -> None:
    """lr min(1, (step + 1) / warmup), times 1 - (1 - end) step / steps if ``decay`` is "linear".

    A group of parameters with a ``scale`` has that share of it.
    """
    factor = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.decay == "linear":
        factor *= 1.0 - (1.0 - settings.end) * step / steps
    for group in optimizer.param_groups:
        group["lr"] = lr * factor * group.get("scale", 1.0)
