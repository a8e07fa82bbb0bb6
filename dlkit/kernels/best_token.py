"""The best row of a table for every state, without the full matrix of scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlkit.kernels._tiles import shape_of_tile

LARGE = 1 << 22
"""Scores from which on it pays on a CPU to look for the place of the highest one afterwards."""


@torch.no_grad()  # a choice has no gradient
def best_token(
    x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], *, elements: int | None = None
) -> Int[Tensor, "*n"]:
    """argmax_v (x . table_v + bias_v) in float32, the first one on ties.

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
        flat, table, bias = flat.float(), table.float(), bias.float()
        found = [_best(part, table, bias, tokens, later) for part in flat.split(rows)]
        best = torch.cat(found)
        return (_in_tile(flat, table, bias, best, rows, tokens) if later else best).reshape(x.shape[:-1])


def _best(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], tokens: int, tile_alone: bool
) -> Int[Tensor, " n"]:
    """The best token of each state, or only where its tile begins."""
    found = torch.zeros(len(x), dtype=torch.long, device=x.device)
    best = x.new_full((len(x),), -torch.inf)
    for start in range(0, len(table), tokens):
        scores = torch.addmm(bias[start : start + tokens], x, table[start : start + tokens].T)
        if tile_alone:
            highest, token = scores.amax(1), start
        else:
            highest, place = scores.max(1)
            token = place + start
        found = torch.where(highest > best, token, found)
        best = torch.maximum(highest, best)
    return found


def _in_tile(
    x: Float[Tensor, "n d"],
    table: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"],
    starts: Int[Tensor, " n"],
    rows: int,
    tokens: int,
) -> Int[Tensor, " n"]:
    """The best token of each state among those of the tile that begins there."""
    found, tile = torch.empty_like(starts), starts // tokens
    sizes = tile.bincount(minlength=-(-len(table) // tokens)).tolist()
    for number, states in enumerate(tile.argsort().split(sizes)):
        one = slice(number * tokens, (number + 1) * tokens)
        for some in states.split(rows):
            found[some] = torch.addmm(bias[one], x[some], table[one].T).argmax(1) + one.start
    return found
