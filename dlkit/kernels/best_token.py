"""The best row of a table for every state, without the full matrix of scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

ELEMENTS = 1 << 22
"""Scores held at once unless told otherwise: 16 MiB of float32, whatever the batch and the vocabulary."""


@torch.no_grad()  # a choice has no gradient
def best_token(
    x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], *, elements: int = ELEMENTS
) -> Int[Tensor, "*n"]:
    """argmax_v (x . table_v + bias_v) in float32, the first one on ties.

    Args:
        x: states.
        table: one row for each token.
        bias: one number for each token.
        elements: scores held at once, and at least those of one state.
    """
    flat, rows = x.reshape(-1, x.shape[-1]), max(1, elements // len(table))
    weight, offset = table.float().T, bias.float()
    best = [torch.addmm(offset, part.float(), weight).argmax(1) for part in flat.split(rows)]
    return torch.cat(best).reshape(x.shape[:-1])
