"""Nearest row of a table, without the full matrix of distances."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlkit.kernels._wide import wide_type
from dlkit.kernels.best_token import best_token

Metric = Literal["l2", "cosine"]


def nearest_token(
    x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], *, metric: Metric = "l2", elements: int | None = None
) -> Int[Tensor, "*n"]:
    """argmin_v |x - table_v|^2 = argmax_v (x . table_v - |table_v|^2 / 2), the first one on ties.

    With ``metric="cosine"`` argmax_v x . table_v / |table_v|; the cosine with a row of zeros counts as 0.

    Args:
        x: states.
        table: one row for each token.
        metric: what near means.
        elements: see :func:`dlkit.kernels.best_token.best_token`.

    Raises:
        ValueError: the metric is another one, states and table are of different widths, or the table has no rows or
            columns.
    """
    if metric not in ("l2", "cosine"):
        raise ValueError(f"metric must be 'l2' or 'cosine', not {metric!r}")
    rows = table.detach().to(wide_type(x, table))
    if metric == "cosine":
        return best_token(x, F.normalize(rows), rows.new_zeros(len(rows)), elements=elements)
    return best_token(x, rows, rows.square().sum(1) / -2, elements=elements)
