"""DiffuSeq's network and sampling loop as first written: the encoder of `transformers`, distances to all
rows of the table at every step, and every state kept."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from dlkit.backbones.diffuseq import DiffuseqBackbone


class OriginalNetwork(nn.Module):
    """down(BertEncoder(LayerNorm(position + up(x) + time(t)))), with the weights of a backbone of dlkit.

    The encoder is made of its configuration alone, as the original makes it.
    """

    def __init__(self, backbone: DiffuseqBackbone, heads: int, ff: int) -> None:
        super().__init__()
        width, layers = backbone.feature_dim, len(backbone.input_transformers["layer"])  # type: ignore[arg-type]
        config = BertConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ff
        )
        config._attn_implementation = "eager"  # what it takes unless told otherwise
        self.time_dim = backbone.time_dim
        self.time_embed, self.input_up_proj = backbone.time_embed, backbone.input_up_proj
        self.position_embeddings, self.LayerNorm = backbone.position_embeddings, backbone.LayerNorm
        self.input_transformers, self.output_down_proj = BertEncoder(config), backbone.output_down_proj
        self.input_transformers.load_state_dict(backbone.input_transformers.state_dict())
        self.eval()

    def hidden(self, x: Float[Tensor, "b l d"], time: Float[Tensor, " b"]) -> Float[Tensor, "b l h"]:
        """What the last layer puts out."""
        half = self.time_dim // 2
        rates = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=x.device) / half)
        angles = time[:, None].float() * rates
        embedded = self.time_embed(torch.cat((angles.cos(), angles.sin()), -1))
        position = self.position_embeddings(torch.arange(x.shape[1], device=x.device))
        h = self.LayerNorm(position + self.input_up_proj(x) + embedded[:, None])
        return self.input_transformers(h).last_hidden_state

    def forward(self, x: Float[Tensor, "b l d"], time: Float[Tensor, " b"]) -> Float[Tensor, "b l d"]:
        return self.output_down_proj(self.hidden(x, time)).to(x.dtype)


def nearest_rows(table: Float[Tensor, "v d"], x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
    """The embedding nearest to each state, by the matrix of all squared distances |e|^2 + |x|^2 - 2 e.x."""
    flat = x.reshape(-1, x.shape[-1])
    squares = table.square().sum(-1)[:, None] + flat.square().sum(-1)[None, :]
    distance = (squares - 2.0 * table @ flat.T).clamp_min(0.0)
    best = torch.topk(-distance, k=1, dim=0).indices[0]
    return table[best].view(x.shape)


class OriginalSampler:
    """Ancestral steps i = T - 1, ..., 0 with the large variance, from tables of the square-root schedule."""

    def __init__(self, network: nn.Module, table: Float[Tensor, "v d"], steps: int = 2000) -> None:
        self.network, self.table, self.steps = network, table, steps
        time = torch.arange(1, steps + 1, dtype=torch.float64, device=table.device) / steps
        before = torch.cat((time.new_zeros(1), time[:-1]))
        kept = lambda u: 1.0 - torch.sqrt(u + 1e-4)  # noqa: E731
        self.beta = (1.0 - kept(time) / kept(before)).clamp(max=0.999)
        self.alpha_bar = torch.cumprod(1.0 - self.beta, 0)
        self.alpha_bar_before = torch.cat((time.new_ones(1), self.alpha_bar[:-1]))
        self.on_x0 = self.beta * self.alpha_bar_before.sqrt() / (1.0 - self.alpha_bar)
        self.on_x = (1.0 - self.alpha_bar_before) * (1.0 - self.beta).sqrt() / (1.0 - self.alpha_bar)

    @torch.no_grad()
    def sample(
        self,
        start: Float[Tensor, "b l d"],
        anchor: Float[Tensor, "b l d"],
        mask: Bool[Tensor, "b l"],
        count: int | None = None,
        noises: list[Float[Tensor, "b l d"]] | None = None,
    ) -> list[Float[Tensor, "b l d"]]:
        """The states after each of the first ``count`` steps, from the noisiest on; all steps if None.

        Args:
            start: standard normal state.
            anchor: embeddings of the given positions.
            mask: True where text is generated.
            noises: draws of the steps; None draws them here.
        """
        free = mask[..., None].expand_as(start)
        x, states = torch.where(free, start, anchor), []
        for k, i in enumerate(reversed(range(self.steps))):
            if k == count:
                break
            time = torch.full((len(x),), i, device=x.device) * (1000.0 / self.steps)
            x0 = nearest_rows(self.table, self.network(x, time))
            mean = self._at(self.on_x0, i, x) * x0 + self._at(self.on_x, i, x) * x
            noise = torch.randn_like(x) if noises is None else noises[k]
            if i > 0:
                mean = mean + self._at(self.beta, i, x).sqrt() * noise
            x = torch.where(free, mean, anchor)
            states.append(x)
        return states

    @staticmethod
    def _at(values: Float[Tensor, " t"], index: int, like: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """The number of a step, as large as a state."""
        return values[torch.full((len(like),), index, device=like.device)].float()[:, None, None].expand_as(like)
