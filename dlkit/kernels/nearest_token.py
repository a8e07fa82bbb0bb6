"""Nearest row of a table, without the full matrix of distances."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Metric = Literal["l2", "cosine"]


def nearest_token(
    x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], *, metric: Metric = "l2", chunk: int = 4096
) -> Int[Tensor, "*n"]:
    """argmin_v |x - table_v|^2 = argmax_v (x . table_v - |table_v|^2 / 2), the first one on ties.

    With ``metric="cosine"`` argmax_v x . table_v / |table_v|; the cosine with a row of zeros counts as 0.

    Args:
        x: states.
        table: one row for each token.
        metric: what near means.
        chunk: rows of ``x`` compared at once; memory is ``chunk * v`` numbers.
    """
    flat = x.reshape(-1, x.shape[-1])
    rows = F.normalize(table.float()) if metric == "cosine" else table.float()
    half_norm = rows.new_zeros(len(rows)) if metric == "cosine" else rows.square().sum(1) / 2
    best = [torch.addmm(half_norm, part.float(), rows.T, beta=-1).argmax(1) for part in flat.split(chunk)]
    return torch.cat(best).reshape(x.shape[:-1])
