"""Exponential moving average of weights."""

import torch
from torch import Tensor, nn


class Ema:
    """shadow <- d shadow + (1 - d) weight, starting from the first weights; what is frozen stays to the last bit.

    Args:
        module: whose parameters are averaged, in their order.
        decay: the final d.
        warmup: d = min(decay, (1 + n) / (10 + n)) at the n-th tick (n from 0), which forgets the first weights sooner;
            otherwise d = decay from the first tick on, as in DiffuSeq.
    """

    def __init__(self, module: nn.Module, decay: float, warmup: bool = True) -> None:
        self.decay, self.warmup, self.ticks = decay, warmup, 0
        self.shadow = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def tick(self, module: nn.Module) -> None:
        """Take in the present weights."""
        decay = min(self.decay, (1 + self.ticks) / (10 + self.ticks)) if self.warmup else self.decay
        learning = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        weights, shadow = list(learning.values()), [self.shadow[name] for name in learning]
        # not lerp, which rounds otherwise: this is the original's arithmetic to the last bit
        torch._foreach_mul_(shadow, decay)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(shadow, weights, alpha=1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
        self.ticks += 1

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Give a module the averaged weights."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.shadow[name])

    def state(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return self.shadow

    def load(self, state: dict[str, Tensor], ticks: int) -> None:
        """Go on from a saved state."""
        for name, tensor in self.shadow.items():
            tensor.copy_(state[name])
        self.ticks = ticks
