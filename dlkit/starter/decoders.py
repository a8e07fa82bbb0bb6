"""A decoder."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlkit.decoders import register
from dlkit.decoders._base import Decoder
from dlkit.spaces.embedding import EmbeddingSpace


@register("starter", description="the token whose embedding points most nearly the same way")
class Starter(Decoder):
    """argmax_v x . E_v / |E_v|."""

    def decode(self, x: Float[Tensor, "b l d"], space: EmbeddingSpace) -> Int[Tensor, "b l"]:
        return (x @ F.normalize(space.table, dim=1).T).argmax(-1)
