"""Constants that follow the data."""

import torch
from torch import Tensor


class Constant:
    """A tensor with a copy on every device that has asked for it.

    Copying it at each use would make the host wait each time. While a graph is compiled nothing is remembered: the
    graph owns the memory of what is made in it.
    """

    def __init__(self, value: Tensor) -> None:
        self._copies = {str(value.device): value}
        self._value = value

    def on(self, device: torch.device) -> Tensor:
        """The copy on a device."""
        copy = self._copies.get(str(device))
        if copy is None:
            copy = self._value.to(device)
            if not torch.compiler.is_compiling():
                self._copies[str(device)] = copy
        return copy
