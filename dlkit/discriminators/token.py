"""A logit for each position."""

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dlkit.discriminators import register
from dlkit.discriminators._base import Head


class TokenHead(nn.Module):
    """logit_l = v . h_l + c, h_l = LayerNorm(features_l), or v . SiLU(W h_l + w) + c with a hidden layer."""

    def __init__(self, feature_dim: int, hidden: int | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        width = feature_dim if hidden is None else hidden
        inner = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(feature_dim, hidden), nn.SiLU())
        self.inner, self.logit = inner, nn.Linear(width, 1)

    def forward(self, features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        return self.logit(self.inner(self.norm(features))).squeeze(-1).masked_fill(~mask, 0.0)


@register(
    "token",
    description="a logit for each generated position, by one linear map or a small network",
    paper="Isola et al. 2017 (arXiv 1611.07004), the PatchGAN with a patch of one position",
)
class Token(Head):
    """Settings of a :class:`TokenHead`.

    Attributes:
        hidden: width of a hidden layer; None is a linear map.
    """

    hidden: int | None = Field(default=None, ge=1, le=65_536)

    def build(self, feature_dim: int) -> nn.Module:
        return TokenHead(feature_dim, self.hidden)
