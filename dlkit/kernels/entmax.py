"""alpha-entmax: from scores to a distribution that may be sparse."""

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.kernels._wide import wide_type

STEPS = 50


def entmax(scores: Float[Tensor, "*n v"], alpha: float) -> Float[Tensor, "*n v"]:
    """argmax over distributions p of p . z + H_alpha(p), Tsallis' entropy.

    p_i = [(alpha - 1) z_i - tau]_+^(1 / (alpha - 1)), with the tau for which they sum to 1.
    alpha = 2 is sparsemax, the point of the simplex nearest to z; towards 1 it becomes the softmax. tau is found by
    halving an interval: Peters, Niculae & Martins 2019 (arXiv 1905.05702), algorithm 1.

    Args:
        scores: z.
        alpha: in (1, 2].
    """
    z = (alpha - 1) * scores.to(wide_type(scores))
    power = 1.0 / (alpha - 1)
    low = z.amax(-1, keepdim=True) - 1.0  # there the largest alone has a mass of 1
    width = 1.0 - scores.shape[-1] ** (1.0 - alpha)  # here all of them together have at most that
    for step in range(STEPS):
        middle = low + width * 0.5 ** (step + 1)
        low = torch.where((z - middle).clamp_min(0.0).pow(power).sum(-1, keepdim=True) >= 1.0, middle, low)
    p = (z - low).clamp_min(0.0).pow(power)
    return (p / p.sum(-1, keepdim=True)).to(scores.dtype)


def onto_simplex(values: Float[Tensor, "*n v"], alpha: float = 2.0) -> Float[Tensor, "*n v"]:
    """A point q that may lie beside the simplex, brought back: the entmax of sign(q) |q|^(alpha - 1) / (alpha - 1).

    It is the distribution nearest to q in Tsallis' divergence, and leaves every distribution as it is; with alpha = 2
    it is the nearest in distance.
    """
    return entmax(values.sign() * values.abs().pow(alpha - 1) / (alpha - 1), alpha)
