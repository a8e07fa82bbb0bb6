"""Rounding to the nearest embedding."""

from jaxtyping import Float, Int
from torch import Tensor

from dlkit.decoders import register
from dlkit.decoders._base import Decoder, Readable
from dlkit.kernels.nearest_token import Metric


@register(
    "nearest",
    description="the token whose embedding is nearest, in L2 distance or in angle",
    paper="Li et al. 2022, Diffusion-LM (arXiv 2205.14217), section 4.2",
)
class Nearest(Decoder):
    """l2: argmin_v |x - E_v|^2; cosine: argmax_v x . E_v / |E_v|.

    Attributes:
        metric: ``cosine`` disregards the lengths of states and embeddings.
    """

    metric: Metric = "l2"

    def decode(
        self, x: Float[Tensor, "b l d"], space: Readable, u: Float[Tensor, "b l"] | None = None
    ) -> Int[Tensor, "b l"]:
        return space.nearest(x, self.metric)
