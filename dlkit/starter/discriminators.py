"""A discriminator head."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from dlkit.discriminators import register
from dlkit.discriminators._base import Head


class Network(nn.Module):
    """logit = v . sum_l a_l h_l, with a the softmax of q . h_l over generated positions."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.query, self.logit = nn.Linear(feature_dim, 1, bias=False), nn.Linear(feature_dim, 1)

    def forward(self, features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, " b"]:
        keep = mask[..., None]
        scores = self.query(features).masked_fill(~keep, -1e9)  # finite, so that an empty mask gives no NaN
        pooled = (scores.softmax(1) * features * keep).sum(1)
        return self.logit(pooled).squeeze(-1)


@register("starter", description="features pooled by a learned query, then one linear logit")
class Starter(Head):
    """Settings of a :class:`Network`; it has none."""

    def build(self, feature_dim: int) -> Network:
        return Network(feature_dim)
