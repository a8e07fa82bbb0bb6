"""A state passed through layers, and what a backward pass finds of it."""

from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

Recompute = Literal["nothing", "cheap", "layers"]

_aten: Any = torch.ops.aten
_COSTLY: list[Any] = [  # products of matrices and fused attention: all but a few percent of a layer's time
    op.default
    for name in (
        *("mm", "addmm", "bmm", "baddbmm"),
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"),
        *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
    )
    if (op := getattr(_aten, name, None)) is not None
]


class Layered(nn.Module):
    """A network that passes a state through layers of its own.

    Attributes:
        recompute: what a backward pass computes again, so that nobody keeps it: ``nothing``; ``cheap``, all of a layer
            but its products of matrices and its attention; ``layers``, the whole of a layer, of which the input alone
            is kept (Chen et al. 2016, arXiv 1604.06174). Gradients stay what they are.
    """

    recompute: Recompute = "nothing"

    def through(
        self, layers: nn.ModuleList, h: Float[Tensor, "b l h"], taps: tuple[int, ...] | None, *more: Any
    ) -> tuple[Float[Tensor, "b l h"], Float[Tensor, "b l nh"] | None]:
        """What comes out of the last layer, and the states after layers ``taps``, side by side, if any are asked for.

        Args:
            layers: called as ``layer(h, *more)``.
            h: what goes into the first.
            taps: numbers of layers; a negative one counts from the end.

        Raises:
            IndexError: there is no such layer.
        """
        tapped = [range(len(layers))[tap] for tap in taps or ()]
        kept: dict[int, Tensor] = {}  # and no others, so that a call without gradients holds one state at a time
        for number, layer in enumerate(layers):
            h = self._call(layer, h, *more)
            if number in tapped:
                kept[number] = h
        return h, None if taps is None else torch.cat([kept[number] for number in tapped], dim=-1)

    def _call(self, layer: nn.Module, h: Float[Tensor, "b l h"], *more: Any) -> Float[Tensor, "b l h"]:
        if self.recompute == "nothing" or not torch.is_grad_enabled():
            return layer(h, *more)
        if self.recompute == "layers":
            return checkpoint(layer, h, *more, use_reentrant=False)  # type: ignore[return-value]
        keep = partial(create_selective_checkpoint_contexts, _COSTLY)
        return checkpoint(layer, h, *more, use_reentrant=False, context_fn=keep)  # type: ignore[return-value]


def recompute(network: nn.Module, what: Recompute) -> bool:
    """Set what backward passes through a network compute again; whether it can."""
    found = [part for part in network.modules() if isinstance(part, Layered)]
    for part in found:
        part.recompute = what
    return bool(found) or what == "nothing"
