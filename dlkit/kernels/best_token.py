"""The best row of a table for every state, without the full matrix of scores."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlkit.kernels._bounds import WIDEST, highest_between, multiplies_bytes
from dlkit.kernels._tiles import shape_of_tile
from dlkit.kernels._wide import wide_type

LARGE = 1 << 22
"""Scores from which on it pays on a CPU to look for the place of the highest one afterwards."""

MANY = 1024
"""States from which on a column beside the table is cheaper than a bias added to every score."""

ENOUGH = 2048
"""States from which on it pays to write the table in bytes."""

NARROW = 64
"""Width from which on the scores take longer than all that is around them."""

TILES = 16
"""Tiles of a table from which on it pays to rule most of them out."""

OTHERS = 0.25
"""Part of all pairs of a state and a tile that, not ruled out, take as long to look through as all of them to make."""

BLOCK = 1 << 14
"""States whose tiles' highest scores are held at once."""

Tiles = Sequence[tuple[Float[Tensor, "t d"], Float[Tensor, " t"] | None]]
"""Parts of a table and of its bias; None where the bias is the table's last column."""


@torch.no_grad()  # a choice has no gradient
def best_token(
    x: Float[Tensor, "*n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], *, elements: int | None = None
) -> Int[Tensor, "*n"]:
    """argmax_v (x . table_v + bias_v) in float32 or better, the first one on ties.

    Equal rows may have scores that differ in the last bit where tiles are made of different numbers of states; then
    another than the first may be the highest.

    Scores are made and compared in tiles of states by tokens. On a CPU the place of a maximum takes longer to find than
    the maximum, which is vectorised; so there only the best tile of each state is looked for, and in the end that tile
    is made once more: of all of them, a small part. Where the CPU multiplies bytes faster than floats and there is much
    to do, products of bytes first bound the scores of every tile, and only those tiles are made that may have the
    highest: the answer is the same, to float32's rounding.

    Args:
        x: states.
        table: one row for each token.
        bias: one number for each token.
        elements: scores of a tile, held at once; None is what suits the device. On a CPU a few numbers more for each
            state and tile.

    Raises:
        ValueError: states, table and bias do not fit together, or the table has no rows or columns.
    """
    if x.shape[-1:] != table.shape[1:] or bias.shape != table.shape[:1] or not table.shape[1]:
        shapes = ", ".join(str(list(each.shape)) for each in (x, table, bias))
        raise ValueError(f"states [..., d], table [v, d] and bias [v] with d > 0 are needed, not {shapes}")
    flat = x.reshape(-1, x.shape[-1])
    rows, tokens = shape_of_tile(len(flat), len(table), x.device, elements)
    with torch.autocast(x.device.type, enabled=False):
        wide = wide_type(flat, table, bias)
        flat, table, bias = flat.to(wide), table.to(wide), bias.to(wide)
        if x.is_cpu and len(flat) * len(table) >= LARGE and not torch.compiler.is_compiling():
            found = [_best_later(part, table, bias, rows, tokens) for part in flat.split(BLOCK)]
        else:
            found = [_best(part, table, bias, tokens) for part in flat.split(rows)]
        return torch.cat(found).reshape(x.shape[:-1])


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


def _best_later(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], rows: int, tokens: int
) -> Int[Tensor, " n"]:
    """The best token of each state, whose place is looked for in few tiles."""
    best = _best_by_bounds(x, table, bias, rows, tokens)
    return _best_by_tiles(x, table, bias, rows, tokens) if best is None else best


def _best_by_bounds(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], rows: int, tokens: int
) -> Int[Tensor, " n"] | None:
    """The best token of each state, by products of bytes and few of floats; None where that does not pay.

    The score that a state has in its surest tile rules out all tiles whose bound is below it.
    """
    pays = len(x) > ENOUGH and len(table) >= TILES * tokens and NARROW <= x.shape[1] <= WIDEST
    if not (pays and x.dtype == torch.float32 and multiplies_bytes()):
        return None
    between = highest_between(x, table, bias, rows, tokens)
    if between is None:
        return None
    low, high = between
    tiles, memory = list(zip(table.split(tokens), bias.split(tokens), strict=True)), x.new_empty(rows * tokens)
    first = _first(low)
    states, scores, places = _search(x, tiles, first, memory, rows)
    best, found = torch.empty_like(scores), torch.empty_like(places)
    best[states], found[states] = scores, places
    others = (high >= best) & ~first
    if others.sum() > OTHERS * others.numel():
        return None
    states, scores, places = _search(x, tiles, others, memory, rows)
    higher = best.scatter_reduce(0, states, scores, "amax")
    equal = scores == higher[states]
    found = torch.where(higher > best, len(table), found)  # what is better is among these; of equals the first counts
    return found.scatter_reduce(0, states[equal], places[equal], "amin")


def _best_by_tiles(
    x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"], rows: int, tokens: int
) -> Int[Tensor, " n"]:
    """The best token of each state, looked for in its best tile only.

    For many states the bias is a column beside the table, and they end in 1: so the product adds it, and no pass of its
    own.
    """
    biases: Sequence[Tensor | None] = bias.split(tokens)
    if len(x) > MANY:
        x, table = F.pad(x, (0, 1), value=1.0), torch.cat((table, bias[:, None]), 1)
        biases = [None] * len(biases)
    tiles, memory = list(zip(table.split(tokens), biases, strict=True)), x.new_empty(rows * tokens)
    states, _, places = _search(x, tiles, _first(_highest(x, tiles, memory, rows)), memory, rows)
    return torch.empty_like(places).scatter_(0, states, places)


def _first(highest: Float[Tensor, "k n"]) -> Bool[Tensor, "k n"]:
    """Which tile is each state's first one with the highest number."""
    return torch.zeros_like(highest, dtype=torch.bool).scatter_(0, highest.argmax(0, keepdim=True), True)


def _scores(
    memory: Float[Tensor, " e"], x: Float[Tensor, "n d"], table: Float[Tensor, "v d"], bias: Float[Tensor, " v"] | None
) -> Float[Tensor, "n v"]:
    """x . table_v (+ bias_v), written there."""
    scores = memory[: len(x) * len(table)].view(len(x), len(table))
    return torch.mm(x, table.T, out=scores) if bias is None else torch.addmm(bias, x, table.T, out=scores)


def _highest(x: Float[Tensor, "n d"], tiles: Tiles, memory: Float[Tensor, " e"], rows: int) -> Float[Tensor, "k n"]:
    """The highest score of each state in each tile."""
    highest = x.new_empty(len(tiles), len(x))
    for states, out in zip(x.split(rows), highest.split(rows, 1), strict=True):
        for (table, bias), high in zip(tiles, out, strict=True):
            torch.amax(_scores(memory, states, table, bias), 1, out=high)
    return highest


def _search(
    x: Float[Tensor, "n d"], tiles: Tiles, wanted: Bool[Tensor, "k n"], memory: Float[Tensor, " e"], rows: int
) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"], Int[Tensor, " m"]]:
    """For each wanted pair of a tile and a state: the state, its highest score there, and of which token that is."""
    pairs = wanted.nonzero()[:, 1]
    scores, places = x.new_empty(len(pairs)), torch.empty_like(pairs)
    sizes = wanted.sum(1).tolist()
    groups, start = zip(tiles, *(part.split(sizes) for part in (pairs, scores, places)), strict=True), 0
    for (table, bias), states, high, place in groups:
        for some, *out in zip(*(part.split(rows) for part in (states, high, place)), strict=True):
            torch.max(_scores(memory, x[some], table, bias), 1, out=out)
        place += start
        start += len(table)
    return pairs, scores, places
