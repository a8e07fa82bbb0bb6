"""FLM's diffusion transformer, with the parameter names, and their order, of the original."""

from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.backbones import register
from dlkit.backbones._base import Backbone
from dlkit.backbones._layers import Layered
from dlkit.backbones._rotary import rates
from dlkit.backbones.diffuseq import sinusoid

SINUSOID, WEIGHTING = 256, 128


class TimeEmbedding(nn.Module):
    """Linear-SiLU-Linear of 256 sinusoids of a time, which is not scaled: the fastest of them turns by one radian."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SINUSOID, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Float[Tensor, " b"]) -> Float[Tensor, "b c"]:
        return self.mlp(sinusoid(time, SINUSOID).to(self.mlp[0].weight.dtype))  # type: ignore[arg-type]


class TokenEmbedding(nn.Module):
    """x E for a state and E[id] for a token."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(dim, hidden))
        nn.init.kaiming_uniform_(self.embedding, a=5**0.5)

    def forward(self, x: Float[Tensor, "b l d"] | Int[Tensor, "b l"]) -> Float[Tensor, "b l h"]:
        return x @ self.embedding if x.is_floating_point() else self.embedding[x]


class LossWeighting(nn.Module):
    """w(s), the learned logarithm of how large a loss is at a time s: the loss counts as exp(-w) loss + w."""

    def __init__(self, cond: int) -> None:
        super().__init__()
        self.s_embed = TimeEmbedding(cond)
        self.mlp = nn.Sequential(nn.Linear(cond, WEIGHTING), nn.GELU(), nn.Linear(WEIGHTING, 1))
        _zero(self.mlp[2])

    def forward(self, time: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.mlp(self.s_embed(time))[:, 0]


class Rotary(nn.Module):
    """cos and sin of position times 10000^(-k / half): by so much the halves of a head's channels are turned."""

    inv_freq: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", rates(channels))

    def forward(self, length: int) -> tuple[Float[Tensor, "l c"], Float[Tensor, "l c"]]:
        angles = torch.arange(length, device=self.inv_freq.device)[:, None] * self.inv_freq
        angles = torch.cat((angles, angles), -1)
        return angles.cos(), angles.sin()


def turned(
    x: Float[Tensor, "b n l c"], cos: Float[Tensor, "l c"], sin: Float[Tensor, "l c"]
) -> Float[Tensor, "b n l c"]:
    """(a, b) -> (a cos - b sin, b cos + a sin) for the halves a and b of the channels."""
    a, b = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-b, a), -1) * sin.to(x.dtype)


def attend(
    q: Float[Tensor, "b n l c"], k: Float[Tensor, "b n l c"], v: Float[Tensor, "b n l c"], softcap: float | None
) -> Float[Tensor, "b n l c"]:
    """softmax(scores) v, scores = q k^T / sqrt(c), or cap tanh(scores / cap) where they are capped.

    Written out, because the fused kernels know no cap and have no derivative in forward mode, which ``torch.func.jvp``
    asks for.
    """
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return scores.softmax(-1).to(v.dtype) @ v


class Block(nn.Module):
    """h + gate dropout(attention(shifted, scaled norm(h))), and the same with an MLP; all six from the time."""

    def __init__(self, spec: "FlmSpec") -> None:
        super().__init__()
        h = spec.hidden
        self.heads, self.softcap = spec.heads, spec.softcap
        self.norm1 = nn.LayerNorm(h, bias=False)
        self.attn_qkv = nn.Linear(h, 3 * h, bias=False)
        self.attn_out = nn.Linear(h, h, bias=False)
        self.norm2 = nn.LayerNorm(h, bias=False)
        self.mlp = nn.Sequential(nn.Linear(h, 4 * h), nn.GELU(approximate="tanh"), nn.Linear(4 * h, h))
        self.dropout = nn.Dropout(spec.dropout)
        self.adaLN_modulation = _zero(nn.Linear(spec.cond, 6 * h))

    def forward(
        self,
        h: Float[Tensor, "b l h"],
        c: Float[Tensor, "b c"],
        rotary: tuple[Float[Tensor, "l r"], Float[Tensor, "l r"]],
    ) -> Float[Tensor, "b l h"]:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        h = h + gate * self.dropout(self._attention(self.norm1(h) * (1 + scale) + shift, rotary))
        return h + gate_2 * self.dropout(self.mlp(self.norm2(h) * (1 + scale_2) + shift_2))

    def _attention(
        self, h: Float[Tensor, "b l h"], rotary: tuple[Float[Tensor, "l r"], Float[Tensor, "l r"]]
    ) -> Float[Tensor, "b l h"]:
        q, k, v = rearrange(self.attn_qkv(h), "b l (three n c) -> three b n l c", three=3, n=self.heads)
        mixed = attend(turned(q, *rotary), turned(k, *rotary), v, self.softcap)
        return self.attn_out(rearrange(mixed, "b n l c -> b l (n c)"))


class Output(nn.Module):
    """Logits: linear(shifted, scaled norm(h))."""

    def __init__(self, spec: "FlmSpec", vocab_size: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(spec.hidden, bias=False)
        self.linear = _zero(nn.Linear(spec.hidden, vocab_size))
        self.adaLN_modulation = _zero(nn.Linear(spec.cond, 2 * spec.hidden))

    def forward(self, h: Float[Tensor, "b l h"], c: Float[Tensor, "b c"]) -> Float[Tensor, "b l v"]:
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)
        return self.linear(self.norm_final(h) * (1 + scale) + shift)


class FlmBackbone(Layered):
    """Logits of a dense state, h = x E -> blocks, each led by c = SiLU(sigma_map(s) + sigma_map_prime(t)) -> logits.

    ``sigma_map_prime`` exists with ``two_times`` alone. Its last layer starts at zero: a student that takes the weights
    of a network of one time begins as that network, whatever the second time is. D_{s,s}, the denoiser, is what the
    network says where both times are s; so ``end=None`` means s. (The students of FLM's first release were not trained
    there.)

    Attributes:
        own_logits: True.
        two_times: whether a second time is taken.
        feature_dim: width of the hidden states that heads may read.
        learnable_loss_weighting: w(s), or None.
    """

    own_logits = True
    learnable_loss_weighting: LossWeighting | None

    def __init__(self, spec: "FlmSpec", dim: int, vocab_size: int) -> None:
        super().__init__()
        self.two_times, self.feature_dim = spec.two_times, spec.hidden
        self.vocab_embed = TokenEmbedding(dim, spec.hidden)
        self.sigma_map = TimeEmbedding(spec.cond)
        if spec.two_times:
            self.sigma_map_prime = TimeEmbedding(spec.cond)
            _zero(self.sigma_map_prime.mlp[2])
        self.rotary_emb = Rotary(spec.hidden // spec.heads)
        self.learnable_loss_weighting = LossWeighting(spec.cond) if spec.loss_weighting else None
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.output_layer = Output(spec, vocab_size)

    @property
    def head(self) -> nn.Linear:
        """The layer that the logits come from."""
        return self.output_layer.linear

    def embedded(self, time: Float[Tensor, " b"], end: Float[Tensor, " b"] | None = None) -> Float[Tensor, "b c"]:
        """What the blocks are told of the times, before the SiLU."""
        embedded = self.sigma_map(time)
        return embedded + self.sigma_map_prime(time if end is None else end) if self.two_times else embedded

    def forward(
        self,
        x: Float[Tensor, "b l d"] | Int[Tensor, "b l"],
        time: Float[Tensor, " b"],
        taps: tuple[int, ...] | None = None,
        *,
        end: Float[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b l v"], Float[Tensor, "b l h"] | None]:
        """Logits, and the hidden states after blocks ``taps``, side by side, if any are asked for.

        Args:
            x: states, or the tokens of one-hot ones.
            time: in [0, 1], 1 is clean.
            taps: negative numbers count from the end.
            end: the second time; None is the first again.

        Raises:
            TypeError: ``end`` is given to a network of one time.
            IndexError: there is no such block.
        """
        if end is not None and not self.two_times:
            raise TypeError("end: this network takes one time; build it with two_times=True")
        c = F.silu(self.embedded(time, end))
        h, features = self.through(self.blocks, self.vocab_embed(x), taps, c, self.rotary_emb(x.shape[1]))
        logits = self.output_layer(h, c)
        return logits.to(x.dtype) if x.is_floating_point() else logits, features


def _zero(layer: Any) -> Any:
    """The layer with weights and bias 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@register(
    "flm",
    description="diffusion transformer with adaptive norms, rotary positions and capped attention; puts out logits",
    paper="FLM (arXiv 2602.16813); Peebles & Xie 2023, DiT (arXiv 2212.09748); attention cap: arXiv 2408.00118",
    licence="Apache-2.0 (original code)",
)
class FlmSpec(Backbone):
    """Settings of an :class:`FlmBackbone`; the defaults are the official model's (139,292,986 parameters for 30,522
    tokens).

    Attributes:
        layers, hidden, heads: sizes; the MLPs are 4 hidden wide.
        cond: width of what blocks are told of the time.
        softcap: bound of attention scores before the softmax; None for none.
        two_times: take a second time, as students that jump from one time to another do.
        loss_weighting: learn how large losses are at each time, so that each time counts alike.
        dropout: after attention and after MLPs.
    """

    trial: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 16, "heads": 2, "cond": 8, "dropout": 0.0}

    layers: int = Field(default=12, ge=1, le=1_000)
    hidden: int = Field(default=768, ge=2, le=65_536)
    heads: int = Field(default=12, ge=1, le=1_024)
    cond: int = Field(default=128, ge=1, le=65_536)
    softcap: float | None = Field(default=50.0, gt=0.0)
    two_times: bool = False
    loss_weighting: bool = False
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _halves_of_heads(self) -> "FlmSpec":
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden={self.hidden} is not a multiple of 2 heads={2 * self.heads}: halves of a head turn against "
                "each other"
            )
        return self

    def build(self, dim: int, vocab_size: int) -> FlmBackbone:
        """A network for states of width ``dim``, which is the vocabulary's where they are one-hot."""
        return FlmBackbone(self, dim, vocab_size)
