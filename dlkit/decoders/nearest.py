"""Rounding to the nearest embedding."""

from jaxtyping import Float, Int
from torch import Tensor

from dlkit.decoders import register
from dlkit.decoders._base import Decoder
from dlkit.kernels.nearest_token import nearest_token
from dlkit.spaces.embedding import EmbeddingSpace


@register(
    "nearest",
    description="the token whose embedding is nearest in squared L2 distance",
    paper="Li et al. 2022, Diffusion-LM (arXiv 2205.14217), section 4.2",
)
class Nearest(Decoder):
    """argmin_v |x - E_v|^2."""

    def decode(self, x: Float[Tensor, "b l d"], space: EmbeddingSpace) -> Int[Tensor, "b l"]:
        return nearest_token(x, space.table)
