"""A backbone."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from dlkit.backbones import register
from dlkit.backbones._base import Backbone


class Network(nn.Module):
    """Layers h + MLP([h, mean of h over positions]): positions see each other through their mean."""

    def __init__(self, spec: "Starter", dim: int) -> None:
        super().__init__()
        self.feature_dim = hidden = spec.hidden
        self.up, self.down, self.time = nn.Linear(dim, hidden), nn.Linear(hidden, dim), nn.Linear(1, hidden)
        make = lambda: nn.Sequential(nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))  # noqa: E731
        self.layers = nn.ModuleList(make() for _ in range(spec.layers))

    def forward(
        self, x: Float[Tensor, "b l d"], time: Float[Tensor, " b"], taps: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b l h"] | None]:
        """Predicted x0, and the hidden states after layers ``taps``, if asked for; ``time`` is below 1000."""
        h = self.up(x) + self.time(time.to(x.dtype)[:, None] / 1000.0)[:, None]
        states = []
        for layer in self.layers:
            h = h + layer(torch.cat((h, h.mean(1, keepdim=True).expand_as(h)), dim=-1))
            states.append(h)
        return self.down(h), None if taps is None else torch.cat([states[tap] for tap in taps], dim=-1)


@register("starter", description="an MLP on every position and on the mean of all of them")
class Starter(Backbone):
    """Settings of a :class:`Network`.

    Attributes:
        layers, hidden: its sizes.
    """

    trial: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 16}

    layers: int = Field(default=6, ge=1)
    hidden: int = Field(default=256, ge=1)

    def build(self, dim: int, vocab_size: int) -> Network:
        return Network(self, dim)
