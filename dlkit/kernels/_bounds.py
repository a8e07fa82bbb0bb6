"""Between what the highest score of a tile lies, by products of bytes: several times as fast as those of floats."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int8, Int32
from torch import Tensor
from torch.nn import functional as F

COLUMNS = 4
"""Columns that the bias is spread over: one of them would have larger entries than a table, and coarser steps."""

ROUNDING = 1e-5
"""Part of the product of the lengths, and of the bias: more than float32 loses in a score or in its bound."""

LEAST = 1e-37
"""Of a scale: what is below it is no number of full precision."""

WIDEST = 1 << 17
"""Width up to which the sum of 127^2 fits into an int32."""


@dataclass(frozen=True)
class Bytes:
    """Rows r ~ scale * codes."""

    codes: Int8[Tensor, "n d"]
    scale: Float[Tensor, "#n 1"]
    length: Float[Tensor, " n"]
    """|r|."""
    error: Float[Tensor, " n"]
    """|r - scale * codes|."""


def multiplies_bytes() -> bool:
    """Whether this machine's CPU and this PyTorch multiply matrices of bytes, faster than floats and exactly."""
    is_on = torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    return is_on and _has_exact_products()


@cache
def _has_exact_products() -> bool:
    """Tried, as oneDNN held below VNNI (ONEDNN_MAX_CPU_ISA) adds pairs in 16 bits, too few for 2 x 127^2."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    if not hasattr(torch, "_int_mm") or vnni is None or not vnni():
        return False
    x, table = (torch.full((64, 128), code, dtype=torch.int8) for code in (127, -127))
    x[::2] = -127
    return torch.equal(torch.ops.aten._int_mm(x, table.T), (x.double() @ table.double().T).int())


def highest_between(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], rows: int, tokens: int
) -> tuple[Float[Tensor, "k n"], Float[Tensor, "k n"]] | None:
    """For each of the k tiles of so many tokens, two numbers with max_v (x . table_v + bias_v) between them.

    The bias, less the middle m of the tile's, makes columns beside the table, and x has columns of ones, both in
    suitable units: a score is x' . e' + m. With x' = a q + r and e' = b p + u, where q and p are bytes, and by Cauchy
    and Schwarz,

        |x' . e' - a b q . p| <= |x'| |u| + |r| (|e'| + |u|).

    a is a state's own and b is a tile's, so that the maximum over a tile is one over its integers.

    Args:
        x: states, in float32, at most WIDEST wide.
        rows: states of a tile.
        tokens: its tokens.

    Returns:
        None if not all is finite.
    """
    largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True)
    unit = float(largest.median()) or float(largest.mean())  # that of most states, whatever the others are
    middles = torch.stack([torch.stack(part.aminmax()).mean() for part in bias.split(tokens)])[:, None]
    parts = zip(table.split(tokens), bias.split(tokens), middles, strict=True)
    tiles = [_tile_in_bytes(part, (add - middle) / (COLUMNS * unit)) for part, add, middle in parts]
    scale = torch.cat([tile.scale for tile in tiles])
    length, error = (torch.stack([getattr(tile, of).amax() for tile in tiles])[:, None] for of in ("length", "error"))
    low, high = (x.new_empty(len(tiles), len(x)) for _ in range(2))
    memory = x.new_empty(rows * tokens, dtype=torch.int32)
    blocks = zip(x.split(rows), largest.split(rows), low.split(rows, 1), high.split(rows, 1), strict=True)
    for part, top, least, most in blocks:
        states = in_bytes(F.pad(part, (0, COLUMNS), value=unit), top.clamp(min=unit) / 127)
        slack = length * (states.error + ROUNDING * states.length) + error * (states.length + states.error)
        slack += ROUNDING * middles.abs()
        estimate = _highest_products(states.codes, [tile.codes for tile in tiles], memory) * scale * states.scale.T
        estimate += middles
        torch.sub(estimate, slack, out=least)
        torch.add(estimate, slack, out=most)
    return (low, high) if low.isfinite().all() and high.isfinite().all() else None


def in_bytes(rows: Float[Tensor, "n d"], scale: Float[Tensor, "#n 1"]) -> Bytes:
    """Rows by whole numbers of a scale, none of which may be above 127."""
    scale = scale.clamp(min=LEAST)
    steps = rows / scale  # lengths are taken of these, whose squares are numbers
    codes = steps.round()
    length, error = (scale[:, 0] * torch.linalg.vector_norm(of, dim=1) for of in (steps, steps - codes))
    return Bytes(codes.to(torch.int8), scale, length, error)


def _tile_in_bytes(table: Float[Tensor, "t d"], column: Float[Tensor, " t"]) -> Bytes:
    wide = torch.cat((table, column[:, None].expand(-1, COLUMNS)), 1)
    return in_bytes(wide, torch.linalg.vector_norm(wide, torch.inf).view(1, 1) / 127)


def _highest_products(
    x: Int8[Tensor, "n d"], tiles: list[Int8[Tensor, "t d"]], memory: Int32[Tensor, " e"]
) -> Float[Tensor, "k n"]:
    """max_t of x . tile_t for each tile, as floats."""
    highest = memory.new_empty(len(tiles), len(x))
    for tile, out in zip(tiles, highest, strict=True):
        products = memory[: len(x) * len(tile)].view(len(x), len(tile))
        torch.amax(torch.ops.aten._int_mm.out(x, tile.T, out=products), 1, out=out)
    return highest.float()
