"""Convolutions over positions, a logit for each."""

import itertools

from jaxtyping import Bool, Float
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.discriminators import register
from dlkit.discriminators._base import Head


class ConvHead(nn.Module):
    """h = LayerNorm(features); ``layers`` times h = SiLU(conv(h)); logit_l = conv(h)_l.

    Every convolution sees zeros at given positions, so a logit depends on generated positions within its reach only:
    (layers + 1) (kernel - 1) / 2 to either side.
    """

    def __init__(self, feature_dim: int, width: int, kernel: int, layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        widths = [feature_dim, *[width] * layers]
        make = lambda before, after: nn.Conv1d(before, after, kernel, padding=kernel // 2)  # noqa: E731
        self.convolutions = nn.ModuleList(make(a, b) for a, b in itertools.pairwise(widths))
        self.logit = make(widths[-1], 1)

    def forward(self, features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        given = ~mask[:, None]
        h = self.norm(features).mT.masked_fill(given, 0.0)
        for convolution in self.convolutions:
            h = F.silu(convolution(h)).masked_fill(given, 0.0)
        return self.logit(h).masked_fill(given, 0.0).squeeze(1)


@register(
    "conv",
    description="a logit for each generated position, from a neighbourhood that convolutions reach",
    paper="Isola et al. 2017 (arXiv 1611.07004), PatchGAN; DMD2 (arXiv 2405.14867) also puts convolutions on features",
)
class Conv(Head):
    """Settings of a :class:`ConvHead`.

    Attributes:
        width: channels between convolutions.
        kernel: positions that one convolution sees, an odd number.
        layers: convolutions before the last.
    """

    width: int = Field(default=128, ge=1, le=65_536)
    kernel: int = Field(default=3, ge=1, le=255)
    layers: int = Field(default=1, ge=0, le=100)

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} has no middle; give an odd number")
        return kernel

    def build(self, feature_dim: int) -> nn.Module:
        return ConvHead(feature_dim, self.width, self.kernel, self.layers)
