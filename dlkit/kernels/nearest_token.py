"""Nearest row of a table, without the full matrix of distances."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def nearest_token(x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], *, chunk: int = 4096) -> Int[Tensor, "*n"]:
    """argmin_v |x - table_v|^2 = argmax_v (x . table_v - |table_v|^2 / 2), the first one on ties.

    Args:
        x: states.
        table: one row for each token.
        chunk: rows of ``x`` compared at once; memory is ``chunk * v`` numbers.
    """
    flat = x.reshape(-1, x.shape[-1])
    rows = table.float()
    half_norm = rows.square().sum(1) / 2
    best = [torch.addmm(half_norm, part.float(), rows.T, beta=-1).argmax(1) for part in flat.split(chunk)]
    return torch.cat(best).reshape(x.shape[:-1])
