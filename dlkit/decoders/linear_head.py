"""Rounding by the model's own output head."""

from jaxtyping import Float, Int
from torch import Tensor

from dlkit.decoders import register
from dlkit.decoders._base import Decoder, Readable, by_logits


@register(
    "linear_head",
    description="the token with the highest logit x E^T + bias",
    paper="Gong et al. 2023, DiffuSeq (arXiv 2210.08933); the decoder of its sampling program",
)
class LinearHead(Decoder):
    """argmax_v (x . E_v + bias_v)."""

    def decode(
        self, x: Float[Tensor, "b l d"], space: Readable, u: Float[Tensor, "b l"] | None = None
    ) -> Int[Tensor, "b l"]:
        return by_logits(x, space, lambda logits, part: logits.argmax(-1))
