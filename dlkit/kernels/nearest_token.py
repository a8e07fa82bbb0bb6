"""Nearest row of a table, without the full matrix of distances."""

from jaxtyping import Float, Int
from torch import Tensor

from dlkit.kernels.best_token import ELEMENTS, best_token


def nearest_token(
    x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], *, elements: int = ELEMENTS
) -> Int[Tensor, "*n"]:
    """argmin_v |x - table_v|^2 = argmax_v (x . table_v - |table_v|^2 / 2), the first one on ties.

    Args:
        x: states.
        table: one row for each token.
        elements: numbers compared at once, and at least those of one state.
    """
    return best_token(x, table, table.float().square().sum(1) / -2, elements=elements)
