"""The engine: all that depends on devices, precision and processes."""

import contextlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dlkit.backbones._layers import Recompute, recompute
from dlkit.errors import UserError
from dlkit.kernels._twin import compiled, has_compiler
from dlkit.recipe import Optimizer, Run

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""What an optimiser trains, or groups of it."""


class Engine(Protocol):
    """What the loops ask of the machine.

    There is one implementation, :class:`TorchEngine`, for one process. One for many processes would wrap modules in
    ``setup`` and reduce gradients in ``step``; the loop's part is to give each process its rows of the batch. Random
    numbers belong to samples, so their sum would not depend on the number of processes. Objectives would not notice.

    Attributes:
        device: where tensors live.
    """

    device: torch.device

    def setup(self, module: nn.Module) -> nn.Module:
        """Move a module to the device (and wrap it)."""
        ...

    def prepare(self, network: nn.Module, learns: bool) -> None:
        """Make a network keep or compute again what it should for a backward pass, and compile it if asked to.

        Raises:
            UserError: the network cannot.
        """
        ...

    def optimizer(self, parameters: Parameters, settings: Optimizer, lr: float) -> torch.optim.Optimizer:
        """AdamW over the parameters."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that networks compute in."""
        ...

    def backward(self, loss: Tensor, only: Sequence[Tensor] | None = None, *, keep: bool = False) -> None:
        """Add the gradients of a loss, of some parameters ``only`` or of all; ``keep`` its graph for another."""
        ...

    def step(self, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
        """Reduce and clip the gradients, step, clear them; returns their norm."""
        ...


class TorchEngine:
    """One process, one device, plain torch.

    Raises:
        UserError: the device does not exist.
    """

    def __init__(self, run: Run) -> None:
        self.device = pick_device(run.device)
        self.precision, self.memory, self.compile = run.precision, run.memory, run.compile

    def setup(self, module: nn.Module) -> nn.Module:
        return module.to(self.device)

    def prepare(self, network: nn.Module, learns: bool) -> None:
        again: dict[str, Recompute] = {"fast": "nothing", "low": "cheap" if learns else "nothing", "lowest": "layers"}
        if not recompute(network, again[self.memory]):
            raise UserError(
                f"run.memory={self.memory}: a {type(network).__name__} cannot compute its layers again; "
                "set run.memory=fast"
            )
        if self.compile == "networks" and has_compiler(self.device.type):
            network.compile()

    def optimizer(self, parameters: Parameters, settings: Optimizer, lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters,
            lr=lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        # what is computed again must be what was computed: a weight's cached copy is there only the first time
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=self.memory == "fast")

    def backward(self, loss: Tensor, only: Sequence[Tensor] | None = None, *, keep: bool = False) -> None:
        loss.backward(inputs=only, retain_graph=keep)

    def step(self, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, float("inf") if clip is None else clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm


def kernels(run: Run) -> AbstractContextManager[Any]:
    """Kernels run compiled inside, if the run asks for it."""
    return contextlib.nullcontext() if run.compile == "nothing" else compiled()


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
