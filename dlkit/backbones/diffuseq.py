"""DiffuSeq's transformer, with the parameter names and shapes of the original."""

import math
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.backbones import register
from dlkit.backbones._base import Backbone
from dlkit.backbones._layers import Layered

SHORT = 256  # tokens


class SelfAttention(nn.Module):
    """Multi-head attention without a mask: padding is attended to, as in the original."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))

    def forward(self, h: Float[Tensor, "b l h"]) -> Float[Tensor, "b l h"]:
        q, k, v = (rearrange(f(h), "b l (n c) -> b n l c", n=self.heads) for f in (self.query, self.key, self.value))
        mixed = attend(q, k, v, self.dropout if self.training else 0.0)
        return rearrange(mixed, "b n l c -> b l (n c)")


def attend(
    q: Float[Tensor, "b n l c"], k: Float[Tensor, "b n l c"], v: Float[Tensor, "b n l c"], dropout: float
) -> Float[Tensor, "b n l c"]:
    """softmax(q k^T / sqrt(c)) v, through PyTorch's fused kernel where that is fast.

    In bf16 on a CPU the matrix products written out are faster: five times in the backward pass ([64, 4, 48, 48]: 9 ms
    against 41), 1.7 times without ([8, 12, 128, 64]: 6.3 ms against 10.4), but for long texts with their many scores
    (as fast at 512). They round the scores to bf16 before the softmax, which the fused kernel does not.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and (torch.is_grad_enabled() or q.shape[2] <= SHORT):
        scores = q * q.shape[-1] ** -0.5 @ k.mT
        weights = scores.softmax(-1, dtype=torch.float32) if torch.is_grad_enabled() else scores.softmax(-1)
        return F.dropout(weights.to(v.dtype), dropout, training=dropout > 0) @ v
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)


class ResidualOutput(nn.Module):
    """LayerNorm(residual + Dropout(Linear(h))): BERT's post-norm ending of both halves of a layer."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Float[Tensor, "b l w"], residual: Float[Tensor, "b l h"]) -> Float[Tensor, "b l h"]:
        return self.LayerNorm(residual + self.dropout(self.dense(h)))


class Layer(nn.Module):
    """One BERT layer. The nesting of names (attention.self, attention.output.dense, ...) is the checkpoint's."""

    def __init__(self, hidden: int, heads: int, ff: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(hidden, heads, attention_dropout), "output": ResidualOutput(hidden, hidden, dropout)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, ff)})
        self.output = ResidualOutput(ff, hidden, dropout)

    def forward(self, h: Float[Tensor, "b l h"]) -> Float[Tensor, "b l h"]:
        h = self.attention["output"](self.attention["self"](h), h)
        return self.output(F.gelu(self.intermediate["dense"](h)), h)


class DiffuseqBackbone(Layered):
    """h = Dropout(LayerNorm(position + up(x) + time(t))) -> layers -> down(h), the prediction.

    ``up`` and ``down`` exist only where the state's width differs from the hidden width.
    """

    def __init__(self, spec: "DiffuseqSpec", dim: int) -> None:
        super().__init__()
        hidden, wide = spec.hidden, 4 * spec.time_dim
        self.time_dim = spec.time_dim
        self.time_embed = nn.Sequential(nn.Linear(spec.time_dim, wide), nn.SiLU(), nn.Linear(wide, hidden))
        self.input_up_proj = _two_linears(dim, hidden, hidden) if dim != hidden else nn.Identity()
        make = lambda: Layer(hidden, spec.heads, spec.ff, spec.dropout, spec.attention_dropout)  # noqa: E731
        self.input_transformers = nn.ModuleDict({"layer": nn.ModuleList(make() for _ in range(spec.layers))})
        self.register_buffer("position_ids", torch.arange(spec.max_positions)[None])
        self.position_embeddings = nn.Embedding(spec.max_positions, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = nn.Dropout(spec.dropout)
        self.output_down_proj = _two_linears(hidden, hidden, dim) if dim != hidden else nn.Identity()

    @property
    def feature_dim(self) -> int:
        """Width of the hidden states that heads may read."""
        return self.position_embeddings.embedding_dim

    def forward(
        self, x: Float[Tensor, "b l d"], time: Float[Tensor, " b"], taps: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b l h"] | None]:
        """The prediction, and the hidden states after layers ``taps``, side by side, if any are asked for.

        A negative number counts from the end.

        Raises:
            IndexError: there is no such layer.
        """
        embedded_time = self.time_embed(sinusoid(time, self.time_dim).to(x.dtype))
        position = self.position_embeddings.weight[: x.shape[1]]
        h = self.dropout(self.LayerNorm(position + self.input_up_proj(x) + embedded_time[:, None]))
        h, features = self.through(self.input_transformers["layer"], h, taps)  # type: ignore[arg-type]
        return self.output_down_proj(h).to(x.dtype), features


def _two_linears(first: int, middle: int, last: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(first, middle), nn.Tanh(), nn.Linear(middle, last))


def sinusoid(time: Float[Tensor, " b"], dim: int, max_period: float = 10000.0) -> Float[Tensor, "b d"]:
    """[cos(t w_k) | sin(t w_k)], w_k = max_period^(-k / (dim // 2)), float32; an odd last column is zero."""
    half = dim // 2
    rates = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=time.device) / half)
    angles = time[:, None].float() * rates
    return F.pad(torch.cat((angles.cos(), angles.sin()), dim=1), (0, dim % 2))


@register(
    "diffuseq",
    description="BERT-shaped encoder; time is added to every position",
    paper="Gong et al. 2023, DiffuSeq (arXiv 2210.08933)",
    licence="MIT (original code)",
)
class DiffuseqSpec(Backbone):
    """Settings of a :class:`DiffuseqBackbone`; the defaults are the official model's (91,225,274 parameters).

    Attributes:
        layers, hidden, heads, ff: the encoder's sizes.
        time_dim: width of the sinusoid of the network's time.
        max_positions: longest sequence.
        dropout: of hidden states; attention_dropout: of attention weights.
    """

    trial: ClassVar[dict[str, Any]] = {
        **{"layers": 2, "hidden": 16, "heads": 2, "ff": 32, "time_dim": 8, "max_positions": 24},
        **{"dropout": 0.0, "attention_dropout": 0.0},
    }

    layers: int = Field(default=12, ge=1, le=1_000)
    hidden: int = Field(default=768, ge=1, le=65_536)
    heads: int = Field(default=12, ge=1, le=1_024)
    ff: int = Field(default=3072, ge=1, le=262_144)
    time_dim: int = Field(default=128, ge=2, le=65_536)
    max_positions: int = Field(default=512, ge=1, le=1_000_000)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    attention_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _heads_divide(self) -> "DiffuseqSpec":
        if self.hidden % self.heads:
            raise ValueError(f"hidden={self.hidden} is not a multiple of heads={self.heads}")
        return self

    def build(self, dim: int, vocab_size: int) -> DiffuseqBackbone:
        """A network for states of width ``dim``."""
        return DiffuseqBackbone(self, dim)
