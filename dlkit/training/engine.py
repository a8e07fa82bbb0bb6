"""The engine: all that depends on devices, precision and processes."""

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dlkit.errors import UserError
from dlkit.recipe import Optimizer, Run


class Engine(Protocol):
    """What the loops ask of the machine. One process here; an engine of many processes has the same six methods.

    Attributes:
        device: where tensors live.
        rank, world: number of this process and of all. A loop takes every ``world``-th sample of a batch from ``rank``
            on; random numbers belong to samples, so the sum over processes does not depend on ``world``.
    """

    device: torch.device
    rank: int
    world: int

    def setup(self, module: nn.Module) -> nn.Module:
        """Move a module to the device (and wrap it)."""
        ...

    def optimizer(self, parameters: Iterable[nn.Parameter], settings: Optimizer, lr: float) -> torch.optim.Optimizer:
        """AdamW over the parameters."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that networks compute in."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        ...

    def step(self, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
        """Reduce and clip the gradients, step, clear them; returns their norm."""
        ...

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes."""
        ...


class TorchEngine:
    """One process, one device, plain torch.

    Raises:
        UserError: the device does not exist.
    """

    rank, world = 0, 1

    def __init__(self, run: Run) -> None:
        self.device = pick_device(run.device)
        self.precision = run.precision

    def setup(self, module: nn.Module) -> nn.Module:
        return module.to(self.device)

    def optimizer(self, parameters: Iterable[nn.Parameter], settings: Optimizer, lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            list(parameters),
            lr=lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, float("inf") if clip is None else clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def mean(self, value: Tensor) -> Tensor:
        return value


def pick_device(name: str) -> torch.device:
    """A device by name; ``auto`` is a GPU if there is one.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):
        raise UserError(f"there is no device {name!r} here; use run.device=auto or cpu") from None
    return device
