"""A space."""

import torch
from pydantic import Field

from dlkit.spaces import register
from dlkit.spaces._base import Space
from dlkit.spaces.embedding import EmbeddingSpace


@register("starter", description="token embeddings that begin with a chosen size")
class Starter(Space):
    """E[w] ~ N(0, scale^2 I) at the start of training.

    Attributes:
        dim: width of an embedding.
        scale: standard deviation of its coordinates.
    """

    dim: int = Field(default=128, ge=1)
    scale: float = Field(default=1.0, gt=0.0)

    def build(self, vocab_size: int) -> EmbeddingSpace:
        space = EmbeddingSpace(vocab_size, self.dim)
        with torch.no_grad():
            space.table.mul_(self.scale)
        return space
