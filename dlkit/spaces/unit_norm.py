"""Token embeddings of length 1 as the continuous state."""

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.kernels.best_token import best_token
from dlkit.kernels.linear_cross_entropy import linear_cross_entropy
from dlkit.spaces import register
from dlkit.spaces._base import Space
from dlkit.spaces._table import TableSpace

SHARPNESS = math.exp(3.0)


class UnitNormSpace(TableSpace):
    """x0 = e_w = m_w / (|m_w| + 1e-8), m_w a row of the parameter ``matrix``, which carries the original's name.

    Nothing but angles tells tokens apart, so the embeddings can neither grow to drown the noise nor shrink.
    """

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(_unit(torch.randn(vocab_size, dim)))

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]

    @property
    def vocab_size(self) -> int:
        return self.matrix.shape[0]

    @property
    def like(self) -> Tensor:
        return self.matrix

    @property
    def table(self) -> Float[Tensor, "v d"]:
        """The embedding of every token."""
        return _unit(self.matrix)

    def embed(self, ids: Int[Tensor, "*b l"]) -> Float[Tensor, "*b l d"]:
        return _unit(F.embedding(ids, self.matrix))

    def logits(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l v"]:
        """e^3 x E^T.

        For an estimate of x0 that is the evidence (alpha / sigma^2) z E^T of its token in z = alpha x at the SNR
        alpha^2 / sigma^2 = e^3, the highest that Plaid begins with (gamma_0 = -3): so far a decoder that draws by
        these logits trusts a state.
        """
        return SHARPNESS * x @ self.table.to(x.dtype).T

    def likeliest(self, x: Float[Tensor, "b l d"]) -> Int[Tensor, "b l"]:
        table = self.table
        return best_token(x, table, table.new_zeros(len(table)))

    def cross_entropy(self, x: Float[Tensor, "b l d"], ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        table = self.table.to(x.dtype)
        return linear_cross_entropy(SHARPNESS * x.flatten(0, 1), table, None, ids.flatten()).view_as(ids)

    def evidence(
        self, x_t: Float[Tensor, "b l d"], alpha: Float[Tensor, "b *m"], sigma: Float[Tensor, "b *m"]
    ) -> Float[Tensor, "b l v"]:
        """(alpha / sigma^2) x_t . e_w; the length of e_w is the same for every token."""
        return (alpha / sigma.square() * x_t) @ self.table.to(x_t.dtype).T


def _unit(rows: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    return rows / (rows.norm(dim=-1, keepdim=True) + 1e-8)


@register(
    "unit_norm",
    description="a learned table of token embeddings of length 1, prior N(0, I)",
    paper="Gulrajani & Hashimoto 2023, Plaid (arXiv 2305.18619), section 3",
)
class UnitNormSpec(Space):
    """Settings of a :class:`UnitNormSpace`.

    Attributes:
        dim: width d of an embedding.
    """

    dim: int = Field(default=16, ge=2, le=65_536)

    def build(self, vocab_size: int) -> UnitNormSpace:
        """A space whose embeddings point in random directions."""
        return UnitNormSpace(vocab_size, self.dim)
