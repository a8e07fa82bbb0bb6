"""The cosine schedule of improved DDPM."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import CappedSchedule

_S = 0.008
_RATE = math.pi / (2.0 * (1.0 + _S))
_AT_ZERO = math.cos(_S * _RATE) ** 2


@register(
    "cosine",
    description="alpha_bar is a squared cosine: nearly linear in the middle, flat at both ends",
    paper="Nichol & Dhariwal 2021, Improved Denoising Diffusion Probabilistic Models (arXiv 2102.09672), eq. 17",
)
class CosineSchedule(CappedSchedule):
    """alpha_bar(t) = cos^2((t + s) / (1 + s) pi/2) / cos^2(s / (1 + s) pi/2) with s = .008, capped at the last step."""

    def _f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return torch.cos((t + _S) * _RATE).square() / _AT_ZERO

    def _d_f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return -_RATE * torch.sin(2.0 * (t + _S) * _RATE) / _AT_ZERO

    def _f_inverse(self, alpha_bar: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return torch.acos((alpha_bar * _AT_ZERO).sqrt().clamp(max=1.0)) / _RATE - _S
