"""Plaid's transformer, with the parameter names and shapes of the original."""

import math
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.backbones import register
from dlkit.backbones._base import Backbone
from dlkit.backbones._layers import Layered
from dlkit.backbones._rotary import rates

BASE_WIDTH = 256  # at which muP leaves the readout and the learning rates as they are
TIME_RATES = 32


class RMSNorm(nn.Module):
    """x / sqrt(mean of x^2 + 1e-5), times a weight, in fp32 at least."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, h: Float[Tensor, "b l h"]) -> Float[Tensor, "b l h"]:
        wide = h.to(torch.promote_types(h.dtype, torch.float32))
        return (wide * (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * self.weight).to(h.dtype)


class Rotary(nn.Module):
    """Turns the pair (c, c + half) of a head's coordinates by position 10000^(-c / half), in fp32."""

    inv_freq: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", rates(width))

    def forward(self, length: int) -> tuple[Float[Tensor, "l c"], Float[Tensor, "l c"]]:
        """Cosine and sine of every position."""
        angles = torch.arange(length, dtype=torch.float32, device=self.inv_freq.device)[:, None] * self.inv_freq
        return angles.cos(), angles.sin()


def turned(x: Float[Tensor, "b n l c"], turn: tuple[Tensor, Tensor]) -> Float[Tensor, "b n l c"]:
    """The heads' vectors turned as :class:`Rotary` says."""
    cosine, sine = turn
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, first * sine + second * cosine), dim=-1).to(x.dtype)


class Block(nn.Module):
    """h + scale Attention(RMSNorm(h)), then h + scale MLP(RMSNorm(h)); no biases."""

    def __init__(self, hidden: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.rmsnorm1 = RMSNorm(hidden)
        self.attn_qkv = _linear(hidden, 3 * hidden)
        self.attn_out = _linear(hidden, hidden)
        self.rmsnorm2 = RMSNorm(hidden)
        self.mlp = nn.ModuleDict({"fc1": _linear(hidden, 4 * hidden), "fc2": _linear(4 * hidden, hidden)})

    def forward(
        self, h: Float[Tensor, "b l h"], turn: tuple[Tensor, Tensor], seen: Bool[Tensor, "b 1 l l"] | None
    ) -> Float[Tensor, "b l h"]:
        qkv = self.attn_qkv(self.rmsnorm1(h))
        q, k, v = rearrange(qkv, "b l (three n c) -> three b n l c", three=3, n=self.heads).unbind(0)
        mixed = F.scaled_dot_product_attention(turned(q, turn), turned(k, turn), v, attn_mask=seen)
        h = h + self.scale * self.attn_out(rearrange(mixed, "b n l c -> b l (n c)"))
        inner = F.gelu(self.mlp["fc1"](self.rmsnorm2(h)), approximate="tanh")
        return h + self.scale * self.mlp["fc2"](inner)


class PlaidBackbone(Layered):
    """h = in(z / sqrt(alpha^2 / d + sigma^2)) + sc(sqrt(d) x0') + time(gamma) -> blocks -> readout: logits.

    x0' is an earlier estimate of x0, nothing at first. The readout W LayerNorm(h) (256 / hidden) + b is in fp32. What
    begins at zero there does so here: the readout, and the ways in of x0' and gamma.
    """

    own_logits = True
    self_conditions = True
    full_precision = ("output_linear",)

    def __init__(self, spec: "PlaidSpec", dim: int, vocab_size: int) -> None:
        super().__init__()
        hidden = spec.hidden
        self.dim, self.readout_scale = dim, BASE_WIDTH / hidden
        self.input_linear = _linear(dim, hidden)
        self.selfcond_linear = _zero(nn.Linear(dim, hidden, bias=False))
        self.gamma_linear = _zero(nn.Linear(2 * TIME_RATES, hidden, bias=False))
        self.rotary_emb = Rotary(hidden // spec.heads)
        self.blocks = nn.ModuleList(Block(hidden, spec.heads, spec.layers**-0.5) for _ in range(spec.layers))
        self.output_norm = nn.LayerNorm(hidden, eps=1e-5, bias=False)
        self.output_linear = _zero(nn.Linear(hidden, vocab_size))

    @property
    def feature_dim(self) -> int:
        """Width of the hidden states that heads may read."""
        return self.output_norm.normalized_shape[0]

    def forward(
        self,
        x: Float[Tensor, "b l d"],
        time: Float[Tensor, " b"],
        taps: tuple[int, ...] | None = None,
        *,
        self_cond: Float[Tensor, "b l d"] | None = None,
        segments: Int[Tensor, "b l"] | None = None,
    ) -> tuple[Float[Tensor, "b l v"], Float[Tensor, "b l h"] | None]:
        """The logits, and the hidden states after blocks ``taps``, side by side, if any are asked for.

        Args:
            x: noisy states.
            time: gamma, minus the log SNR, of any type: the original has float64 in training, float32 in its sampler.
            taps: numbers of blocks; a negative one counts from the end.
            self_cond: the earlier estimate.
            segments: a number for each position: those of different numbers do not see each other. Positions are
                counted from the beginning of the row all the same.

        Raises:
            IndexError: there is no such block.
        """
        h = self._into(x, time, torch.zeros_like(x) if self_cond is None else self_cond.to(x.dtype))
        seen = None if segments is None else (segments[:, None, :, None] == segments[:, None, None, :])
        h, features = self.through(self.blocks, h, taps, self.rotary_emb(x.shape[1]), seen)
        with torch.autocast(x.device.type, enabled=False):
            wide = h.to(self.output_linear.weight.dtype)  # fp32 under autocast, too
            logits = self.output_linear(self.output_norm(wide) * self.readout_scale)
        return logits.to(x.dtype), features

    def _into(
        self, x: Float[Tensor, "b l d"], time: Float[Tensor, " b"], self_cond: Float[Tensor, "b l d"]
    ) -> Float[Tensor, "b l h"]:
        """Unit variance in, whatever the noise: a coordinate of an embedding of length 1 has variance 1 / d."""
        variance = torch.sigmoid(-time) / self.dim + torch.sigmoid(time)
        scaled = x / variance.sqrt().to(x.dtype)[:, None, None]
        rates = torch.linspace(-5.0, 5.0, TIME_RATES, dtype=torch.float64, device=x.device).exp()
        angles = time.double()[:, None] * rates  # up to 148 gamma, which needs the digits
        waves = torch.cat((angles.sin(), angles.cos()), dim=1).to(x.dtype)
        h = self.input_linear(scaled) + self.selfcond_linear(self_cond * math.sqrt(self.dim))
        return h + self.gamma_linear(waves)[:, None]


def _linear(width: int, wide: int) -> nn.Linear:
    """Without bias; its output has the size of its input, whatever the widths."""
    linear = nn.Linear(width, wide, bias=False)
    nn.init.normal_(linear.weight, std=width**-0.5)
    return linear


def _zero(linear: nn.Linear) -> nn.Linear:
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear


@register(
    "plaid",
    description="pre-norm transformer with rotary positions that reads gamma and its last x0, and puts out logits",
    paper="Gulrajani & Hashimoto 2023, Plaid (arXiv 2305.18619); muP: Yang et al. 2022 (arXiv 2203.03466)",
)
class PlaidSpec(Backbone):
    """Settings of a :class:`PlaidBackbone`; the defaults are the small model's, Plaid 1B has 24, 2048 and 32.

    Attributes:
        layers, hidden, heads: sizes; the MLP is four times as wide as ``hidden``.
    """

    trial: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 16, "heads": 2}

    layers: int = Field(default=16, ge=1, le=1_000)
    hidden: int = Field(default=384, ge=2, le=65_536)
    heads: int = Field(default=6, ge=1, le=1_024)

    @model_validator(mode="after")
    def _heads_have_pairs(self) -> "PlaidSpec":
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden={self.hidden} is not a multiple of twice heads={self.heads}")
        return self

    def build(self, dim: int, vocab_size: int) -> PlaidBackbone:
        """A network for states of width ``dim`` that stand for ``vocab_size`` tokens."""
        return PlaidBackbone(self, dim, vocab_size)
