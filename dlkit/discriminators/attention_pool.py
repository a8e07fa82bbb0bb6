"""Features pooled by learned queries, one linear logit."""

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dlkit.discriminators import register
from dlkit.discriminators._base import Head


class AttentionPoolHead(nn.Module):
    """logit = v . [p_1, ..., p_n] + c, p_k = sum_l a_kl h_l, a_k = softmax of q_k . h_l / sqrt(width) over generated l.

    h is LayerNorm of the features. Nothing generated gives p = 0.
    """

    def __init__(self, feature_dim: int, queries: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        self.query = nn.Linear(feature_dim, queries, bias=False)
        self.logit = nn.Linear(queries * feature_dim, 1)

    def forward(self, features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, " b"]:
        keep = mask[..., None]
        h = self.norm(features).masked_fill(~keep, 0.0)
        scores = (self.query(h).float() * h.shape[-1] ** -0.5).masked_fill(~keep, torch.finfo(torch.float32).min)
        weights = scores.softmax(1).masked_fill(~keep, 0.0).to(h.dtype)
        pooled = weights.mT @ h
        return self.logit(pooled.flatten(1)).squeeze(-1)


@register(
    "attention_pool",
    description="features pooled over generated positions by learned queries, then one linear logit",
    paper="Lee et al. 2019, Set Transformer (arXiv 1810.00825), pooling by multihead attention without projections",
)
class AttentionPool(Head):
    """Settings of an :class:`AttentionPoolHead`.

    Attributes:
        queries: what it may look for at once.
    """

    queries: int = Field(default=4, ge=1, le=1_024)

    def build(self, feature_dim: int) -> nn.Module:
        return AttentionPoolHead(feature_dim, self.queries)
