"""What a decoder is."""

from abc import abstractmethod

from jaxtyping import Float, Int
from torch import Tensor

from dlkit.part import Part
from dlkit.spaces.embedding import EmbeddingSpace


class Decoder(Part):
    """States to token ids."""

    @abstractmethod
    def decode(self, x: Float[Tensor, "b l d"], space: EmbeddingSpace) -> Int[Tensor, "b l"]:
        """The token of every position."""
