"""Token embeddings as the continuous state."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from dlkit.kernels.best_token import best_token
from dlkit.kernels.linear_cross_entropy import linear_cross_entropy
from dlkit.spaces import register
from dlkit.spaces._base import Space
from dlkit.spaces._table import TableSpace


class EmbeddingSpace(TableSpace):
    """x0 = E[w]: one row of a table for each token; ``lm_head`` reads states through the same table plus a bias.

    Parameters carry the names of the original DiffuSeq network.
    """

    aliases: ClassVar[dict[str, str]] = {"lm_head.weight": "word_embedding.weight"}

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.word_embedding = nn.Embedding(vocab_size, dim)
        self.lm_head = nn.Linear(dim, vocab_size)
        self.lm_head.weight = self.word_embedding.weight

    def learn_mean(self) -> None:
        """Give the prior a mean, drawn from N(0, 1/sqrt(d)) as the original does, if it has none yet."""
        if self.mean_embed is None:
            self.mean_embed = nn.Parameter(torch.randn(self.dim, device=self.table.device) * self.dim**-0.5)

    @property
    def table(self) -> Float[Tensor, "v d"]:
        """The embedding of every token."""
        return self.word_embedding.weight

    def embed(self, ids: Int[Tensor, "*b l"]) -> Float[Tensor, "*b l d"]:
        return self.word_embedding(ids)

    def logits(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l v"]:
        """x E^T + bias."""
        return self.lm_head(x)

    def likeliest(self, x: Float[Tensor, "b l d"]) -> Int[Tensor, "b l"]:
        return best_token(x, self.table, self.lm_head.bias)

    def cross_entropy(self, x: Float[Tensor, "b l d"], ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        return linear_cross_entropy(x.flatten(0, 1), self.table, self.lm_head.bias, ids.flatten()).view_as(ids)


@register(
    "embedding",
    description="a learned table of token embeddings, prior N(0, I)",
    paper="Gong et al. 2023, DiffuSeq (arXiv 2210.08933); Li et al. 2022, Diffusion-LM (arXiv 2205.14217)",
)
class EmbeddingSpec(Space):
    """Settings of an :class:`EmbeddingSpace`.

    Attributes:
        dim: width d of an embedding.
    """

    dim: int = Field(default=128, ge=1, le=65_536)

    def build(self, vocab_size: int) -> EmbeddingSpace:
        """A space with N(0, 1) embeddings, as the original starts from."""
        return EmbeddingSpace(vocab_size, self.dim)


def sigma_0_noised(
    x0: Float[Tensor, "b l d"], sigma_0: float | Float[Tensor, "l 1"], eps: Float[Tensor, "b l d"]
) -> Float[Tensor, "b l d"]:
    """The start of DiffuSeq's forward process: embedding + sigma_0 noise."""
    if isinstance(sigma_0, Tensor):
        return x0 + sigma_0.to(x0) * eps
    return torch.add(x0, eps, alpha=sigma_0)
