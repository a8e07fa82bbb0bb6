"""Gated convolutions."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.backbones import register
from dlkit.backbones._base import Backbone


class GatedLayer(nn.Module):
    """h + W (a * sigmoid(b)), [a, b] = Conv(LayerNorm(h)): a position sees itself and one ``dilation`` to each side."""

    def __init__(self, hidden: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.conv = nn.Conv1d(hidden, 2 * hidden, kernel_size=3, padding=dilation, dilation=dilation)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, h: Float[Tensor, "b l h"]) -> Float[Tensor, "b l h"]:
        gated = F.glu(self.conv(self.norm(h).mT), dim=1)
        return h + self.out(gated.mT)


class GatedConv(nn.Module):
    """h = up(x) + time(t) -> layers with dilations 1, 2, 4, ... -> down(h), the predicted x0."""

    def __init__(self, spec: "GatedConvSpec", dim: int) -> None:
        super().__init__()
        self.feature_dim = hidden = spec.hidden
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.time = nn.Sequential(nn.Linear(2 * spec.rates, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.layers = nn.ModuleList(GatedLayer(hidden, 2 ** (k % 6)) for k in range(spec.layers))
        self.register_buffer("rates", math.pi * 2.0 ** torch.arange(spec.rates) / 1000.0, persistent=False)

    def forward(
        self, x: Float[Tensor, "b l d"], time: Float[Tensor, " b"], taps: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b l h"] | None]:
        """Predicted x0, and the hidden states after layers ``taps`` side by side, if any are asked for."""
        angles = time.to(x.dtype)[:, None] * self.rates.to(x.dtype)
        h = self.up(x) + self.time(torch.cat((angles.sin(), angles.cos()), dim=1))[:, None]
        states = [h := layer(h) for layer in self.layers]
        return self.down(h), None if taps is None else torch.cat([states[tap] for tap in taps], dim=-1)


@register(
    "gated_conv",
    description="dilated gated convolutions that predict x0",
    paper="Dauphin et al. 2017, Language Modeling with Gated Convolutional Networks (arXiv 1612.08083)",
)
class GatedConvSpec(Backbone):
    """Settings of a :class:`GatedConv`.

    Attributes:
        layers: dilations are 1, 2, 4, 8, 16, 32 and 1 again.
        hidden: width.
        rates: sines and as many cosines of the network's time, each twice as fast as the one before.
    """

    trial: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 16}

    layers: int = Field(default=8, ge=1, le=1_000)
    hidden: int = Field(default=256, ge=1, le=65_536)
    rates: int = Field(default=8, ge=1, le=16)

    def build(self, dim: int, vocab_size: int) -> GatedConv:
        """A network for states of width ``dim``."""
        return GatedConv(self, dim)
