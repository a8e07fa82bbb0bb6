"""The best row of a table for every state, without the full matrix of scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlkit.kernels._tiles import shape_of_tile
from dlkit.kernels._wide import wide_type

LARGE = 1 << 22
"""Scores from which on it pays on a CPU to look for the place of the highest one afterwards."""

MANY = 1024
"""States from which on a column beside the table is cheaper than a bias added to every score."""


@torch.no_grad()  # a choice has no gradient
def best_token(
    x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], *, elements: int | None = None
) -> Int[Tensor, "*n"]:
    """argmax_v (x . table_v + bias_v) in float32 or better, the first one on ties.

    Scores are made and compared in tiles of states by tokens. On a CPU the place of a maximum takes longer to find than
    the maximum, which is vectorised; so there only the best tile of each state is looked for, and in the end that tile
    is made once more: of all of them, a small part.

    Args:
        x: states.
        table: one row for each token.
        bias: one number for each token.
        elements: scores held at once, never those of all states and tokens; None is what suits the device.
    """
    flat = x.reshape(-1, x.shape[-1])
    rows, tokens = shape_of_tile(len(flat), len(table), x.device, elements)
    later = x.is_cpu and len(flat) * len(table) >= LARGE and not torch.compiler.is_compiling()
    with torch.autocast(x.device.type, enabled=False):
        wide = wide_type(flat, table, bias)
        flat, table, bias = flat.to(wide), table.to(wide), bias.to(wide)
        if later:
            best = _in_tile(flat, table, bias, _tile_of_best(flat, table, bias, rows, tokens), rows, tokens)
        else:
            best = torch.cat([_best(part, table, bias, tokens) for part in flat.split(rows)])
        return best.reshape(x.shape[:-1])


def _best(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], tokens: int
) -> Int[Tensor, " n"]:
    """The best token of each state."""
    found = torch.zeros(len(x), dtype=torch.long, device=x.device)
    best = x.new_full((len(x),), -torch.inf)
    for start in range(0, len(table), tokens):
        scores = torch.addmm(bias[start : start + tokens], x, table[start : start + tokens].T)
        highest, place = scores.max(1)
        found = torch.where(highest > best, place + start, found)
        best = torch.maximum(highest, best)
    return found


def _tile_of_best(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], rows: int, tokens: int
) -> Int[Tensor, " n"]:
    """Where the tile of each state's best token begins. All tiles are made in the same memory.

    For many states the bias is a column beside the table, and they end in 1: so the product adds it, and no pass of its
    own.
    """
    many = len(x) > MANY
    if many:
        x, table = F.pad(x, (0, 1), value=1.0), torch.cat((table, bias[:, None]), 1)
    tiles, tile_bias = table.split(tokens), bias.split(tokens)
    memory, highest = x.new_empty(rows * tokens), x.new_empty(len(tiles), rows)
    found = []
    for states in x.split(rows):
        for tile, add, high in zip(tiles, tile_bias, highest[:, : len(states)], strict=True):
            scores = memory[: len(states) * len(tile)].view(len(states), len(tile))
            if many:
                torch.mm(states, tile.T, out=scores)
            else:
                torch.addmm(add, states, tile.T, out=scores)
            torch.amax(scores, 1, out=high)
        found.append(highest[:, : len(states)].argmax(0) * tokens)
    return torch.cat(found)


def _in_tile(
    x: Float[Tensor, "n d"],
    table: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"],
    starts: Int[Tensor, " n"],
    rows: int,
    tokens: int,
) -> Int[Tensor, " n"]:
    """The best token of each state among those of the tile that begins there."""
    order, sizes = starts.argsort(), (starts // tokens).bincount(minlength=-(-len(table) // tokens)).tolist()
    tiles = zip(x[order].split(sizes), table.split(tokens), bias.split(tokens), strict=True)
    found = [
        torch.addmm(add, some, tile.T).argmax(1) + number * tokens
        for number, (states, tile, add) in enumerate(tiles)
        for some in states.split(rows)
    ]
    best = torch.empty_like(starts)
    best[order] = torch.cat(found)
    return best
