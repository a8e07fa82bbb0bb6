"""A decoder."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dlkit.decoders import register
from dlkit.decoders._base import Decoder, Readable, by_logits


@register("starter", description="the token with the highest logit, with the first tokens held back")
class Starter(Decoder):
    """argmax_v (logit_v - penalty for v < first).

    Attributes:
        first: how many tokens, special ones as a rule, are held back.
        penalty: by how much.
    """

    first: int = Field(default=1, ge=0)
    penalty: float = 0.5

    def decode(
        self, x: Float[Tensor, "b l d"], space: Readable, u: Float[Tensor, "b l"] | None = None
    ) -> Int[Tensor, "b l"]:
        held = torch.arange(space.vocab_size, device=x.device) < self.first
        return by_logits(x, space, lambda logits, part: (logits - self.penalty * held).argmax(-1))
