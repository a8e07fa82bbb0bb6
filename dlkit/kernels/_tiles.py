"""Scores of states and tokens [n, v], a tile at a time."""

import torch

ON_CPU = 1 << 20
"""Elements of a tile: 4 MiB of float32, which stay in the caches of two cores from one pass to the next."""

ON_ACCELERATOR = 1 << 23
"""There small products leave the device idle."""

TOKENS = 512
"""Columns of a tile if there is room: a product this wide is fast, and its part of the table fits the cache too."""


def shape_of_tile(n: int, v: int, device: torch.device, elements: int | None = None) -> tuple[int, int]:
    """Rows and columns of a tile of at most so many elements, or one. It is never the whole matrix, if that has two.

    Args:
        n: rows of the matrix.
        v: its columns.
        device: what it suits, unless ``elements`` says otherwise.
        elements: the most that a tile has.

    Raises:
        ValueError: there are no columns.
    """
    if not v:
        raise ValueError("the table has no rows; give one for each token")
    elements = elements or (ON_CPU if device.type == "cpu" else ON_ACCELERATOR)
    columns = min(v, elements, max(TOKENS, elements // max(n, 1)))
    rows = max(1, min(n, elements // columns))
    if rows >= n and columns >= v:
        return (rows, -(-columns // 2)) if columns > 1 else (-(-rows // 2), columns)
    return rows, columns
