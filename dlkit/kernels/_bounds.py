"""What no score in a tile exceeds, by products of bytes: several times as fast as products of floats."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int8
from torch import Tensor
from torch.nn import functional as F

COLUMNS = 4
"""Columns that the bias is spread over: one of them would have larger entries than a table, and coarser steps."""

ROUNDING = 1e-5
"""Part of the product of the lengths, and of the bias: more than float32 loses in a score or in its bound."""


@dataclass(frozen=True)
class Bytes:
    """Rows r ~ scale * codes."""

    codes: Int8[Tensor, "n d"]
    scale: Float[Tensor, "#n 1"]
    length: Float[Tensor, " n"]
    """|r|."""
    error: Float[Tensor, " n"]
    """|r - scale * codes|."""


@cache
def multiplies_bytes() -> bool:
    """Whether this machine's CPU and this PyTorch multiply matrices of bytes, and faster than floats."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    return hasattr(torch, "_int_mm") and vnni is not None and vnni()


def highest_possible(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], rows: int, tokens: int
) -> Float[Tensor, "k n"] | None:
    """For each of the k tiles of so many tokens, what x . table_v + bias_v does not exceed. None if not all is finite.

    The bias, less the middle m of the tile's, makes columns beside the table, and x has columns of ones, both in
    suitable units: a score is x' . e' + m. With x' = a q + r and e' = b p + u, where q and p are bytes, and by Cauchy
    and Schwarz,

        x' . e' <= a b q . p + |x'| |u| + |r| (|e'| + |u|).

    a is a state's own and b is a tile's, so that the maximum over a tile is one over its integers.

    Args:
        x: states, in float32.
        rows: states of a tile.
        tokens: its tokens.
    """
    largest = x.abs().amax(1, keepdim=True)
    unit = float(largest.mean())
    states = in_bytes(F.pad(x, (0, COLUMNS), value=unit), largest.clamp(min=unit) / 127)
    middles = torch.stack([torch.stack(part.aminmax()).mean() for part in bias.split(tokens)])
    parts = zip(table.split(tokens), bias.split(tokens), middles, strict=True)
    tiles = [_tile_in_bytes(part, (add - middle) / (COLUMNS * unit)) for part, add, middle in parts]
    scale = torch.stack([tile.scale for tile in tiles]).view(-1, 1)
    length, error = (
        torch.stack([getattr(tile, name).amax() for tile in tiles])[:, None] for name in ("length", "error")
    )
    bounds = (length * (states.error + ROUNDING * states.length)).addcmul_(error, states.length + states.error)
    bounds += (middles + ROUNDING * middles.abs())[:, None]
    if not bounds.isfinite().all():
        return None
    highest = _highest_products(states.codes, [tile.codes for tile in tiles], rows)
    return bounds.addcmul_(highest * scale, states.scale.T)


def in_bytes(rows: Float[Tensor, "n d"], scale: Float[Tensor, "#n 1"]) -> Bytes:
    """Rows by whole numbers of a scale, none of which may be above 127."""
    codes = (rows / scale).round_()
    length, error = (torch.linalg.vector_norm(of, dim=1) for of in (rows, torch.addcmul(rows, codes, scale, value=-1)))
    return Bytes(codes.to(torch.int8), scale, length, error)


def _tile_in_bytes(table: Float[Tensor, "t d"], column: Float[Tensor, " t"]) -> Bytes:
    wide = torch.cat((table, column[:, None].expand(-1, COLUMNS)), 1)
    return in_bytes(wide, torch.linalg.vector_norm(wide, torch.inf).view(1, 1) / 127)


def _highest_products(x: Int8[Tensor, "n d"], tiles: list[Int8[Tensor, "t d"]], rows: int) -> Float[Tensor, "k n"]:
    """max_t of x . tile_t for each tile; as floats, which the scales then multiply."""
    memory = x.new_empty(min(rows, len(x)) * len(tiles[0]), dtype=torch.int32)
    highest = x.new_empty(len(tiles), len(x), dtype=torch.int32)
    for states, out in zip(x.split(rows), highest.split(rows, 1), strict=True):
        for tile, high in zip(tiles, out, strict=True):
            products = memory[: len(states) * len(tile)].view(len(states), len(tile))
            torch.amax(torch.ops.aten._int_mm.out(states, tile.T, out=products), 1, out=high)
    return highest.float()
