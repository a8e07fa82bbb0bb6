"""No head at all: the features are the logits."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dlkit.discriminators import register
from dlkit.discriminators._base import Head


class ParameterFreeHead(nn.Module):
    """logit_l = mean over channels of h_l."""

    def forward(self, features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        wide = torch.promote_types(features.dtype, torch.float32)
        return features.mean(-1, dtype=wide).masked_fill(~mask, 0.0)


@register(
    "parameter_free",
    description="the mean over channels is a position's logit: the features' network alone learns to tell",
    paper="Zhou et al. 2024, SiDA (arXiv 2410.14919)",
)
class ParameterFree(Head):
    """Settings of a :class:`ParameterFreeHead`; it has none.

    Behind a LayerNorm with scale one and shift zero the mean over channels is always zero. Trained networks have other
    scales and shifts, but a logit may begin with a small range. On features of the teacher nothing would learn; a
    Recipe with both is refused.
    """

    learns: ClassVar[bool] = False

    def build(self, feature_dim: int) -> nn.Module:
        return ParameterFreeHead()
