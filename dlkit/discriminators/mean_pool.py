"""Mean-pooled features, one linear logit."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from dlkit.discriminators import register
from dlkit.discriminators._base import Head, masked_mean


class MeanPoolHead(nn.Module):
    """logit = v . LayerNorm(mean over generated positions of h) + c."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        self.logit = nn.Linear(feature_dim, 1)

    def forward(self, features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, " b"]:
        return self.logit(self.norm(masked_mean(features, mask))).squeeze(-1)


@register(
    "mean_pool",
    description="mean of the features over generated positions, then one linear logit",
    paper="DLM-One (arXiv 2506.00290) names no head; this is this project's simplest choice",
)
class MeanPool(Head):
    """Settings of a :class:`MeanPoolHead`; it has none."""

    def build(self, feature_dim: int) -> nn.Module:
        return MeanPoolHead(feature_dim)
