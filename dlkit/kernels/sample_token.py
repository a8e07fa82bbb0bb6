"""A token drawn from logits, with temperature, top-k and nucleus."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_token(
    logits: Float[Tensor, "n v"],
    u: Float[Tensor, " n"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Int[Tensor, " n"]:
    """Invert the distribution function: the first v with w_1 + ... + w_v > u (w_1 + ... + w_V).

    w = exp(logits / temperature), :func:`restrict`-ed; arithmetic is in float64, so that a long tail keeps its mass.
    At temperature 0 it is argmax_v logits_v, the first one on ties.

    Args:
        logits: one row for each token that is drawn.
        u: uniforms on (0, 1).
        temperature: at least 0, in units of the logits.
        top_k, top_p: see :func:`restrict`.
    """
    if temperature == 0.0:
        return logits.argmax(-1)
    highest = logits.amax(-1, keepdim=True)
    mass = restrict(((logits - highest).double() / temperature).exp(), top_k, top_p).cumsum(-1)
    drawn = torch.searchsorted(mass, u.double()[:, None] * mass[:, -1:], right=True)[:, 0]
    return drawn.clamp_max(logits.shape[-1] - 1)  # logits that are not numbers still give a token


def restrict(weights: Float[Tensor, "n v"], top_k: int | None = None, top_p: float = 1.0) -> Float[Tensor, "n v"]:
    """Weights of a distribution, those of unlikely tokens set to 0.

    First the ``top_k`` heaviest tokens are kept, then of these the fewest, heaviest first, whose share of the mass of
    the ``top_k`` is at least ``top_p``. Of equally heavy tokens the first is kept first.

    Args:
        weights: at least 0, in any unit.
        top_k: at least 1; None keeps all.
        top_p: in (0, 1].

    Source: Fan, Lewis & Dauphin 2018 (arXiv 1805.04833) for top-k; Holtzman et al. 2020 (arXiv 1904.09751) for the
    nucleus.
    """
    size = weights.shape[-1]
    most = size if top_k is None else min(top_k, size)
    if most == size and top_p == 1.0:
        return weights
    mass = (best := weights.topk(most).values).cumsum(-1)
    count = 1 + (mass[:, :-1] < top_p * mass[:, -1:]).sum(-1, keepdim=True)
    least = best.gather(-1, count - 1)
    above, level = weights > least, weights == least
    room = count - above.sum(-1, keepdim=True)
    return weights * (above | (level & (level.cumsum(-1) <= room)))
