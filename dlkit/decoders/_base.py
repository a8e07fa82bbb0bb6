"""What a decoder is."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlkit.kernels.nearest_token import Metric
from dlkit.part import Part

ELEMENTS = 1 << 20
"""Logits held at once: 4 MiB of float32, whatever the batch and the length; a draw needs some thirty times as much."""


class Readable(Protocol):
    """All that decoders ask of a space."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        ...

    def nearest(self, x: Float[Tensor, "b l d"], metric: Metric = "l2") -> Int[Tensor, "b l"]:
        """The token whose state is nearest."""
        ...

    def logits(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l v"]:
        """How well each token fits each state."""
        ...


class Decoder(Part):
    """States to token ids."""

    @abstractmethod
    def decode(
        self, x: Float[Tensor, "b l d"], space: Readable, u: Float[Tensor, "b l"] | None = None
    ) -> Int[Tensor, "b l"]:
        """The token of every position.

        Args:
            x: states.
            space: what they are states of.
            u: uniforms on (0, 1) that belong to the samples, for a decoder that draws; no other chance is allowed.
        """


@torch.no_grad()  # a choice has no gradient
def by_logits(
    x: Float[Tensor, "b l d"],
    space: Readable,
    choose: Callable[[Float[Tensor, "n v"], slice], Int[Tensor, " n"]],
) -> Int[Tensor, "b l"]:
    """The token that ``choose`` takes at every position, with the logits of a few positions at a time.

    Args:
        choose: called with logits, and with the place of their positions among all ``b * l``.
    """
    flat = x.reshape(1, -1, x.shape[-1])
    tokens = torch.empty(flat.shape[1], dtype=torch.int64, device=x.device)
    size = max(1, min(ELEMENTS // space.vocab_size, len(tokens) // 2))  # never all positions at once
    for start in range(0, len(tokens), size):
        part = slice(start, start + size)
        tokens[part] = choose(space.logits(flat[:, part])[0], part)
    return tokens.view(x.shape[:-1])
