"""Cross-entropy of tokens that a table reads in states, without the logits [n, v]."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dlkit.kernels._tiles import shape_of_tile
from dlkit.kernels._wide import wide_type


def linear_cross_entropy(
    x: Float[Tensor, "n d"],
    table: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"] | None,
    ids: Int[Tensor, " n"],
    *,
    elements: int | None = None,
) -> Float[Tensor, " n"]:
    """-log softmax(x table^T + bias)[id] of every row, in float32 or better.

    With y = x table^T + bias, each row's loss is log sum_v exp(y_v) - y_id, whose gradient for y is p - e_id with
    p = exp(y - log sum exp y). Logits are made a tile at a time, in the forward pass and again in the backward pass;
    between the two one number for each row is kept. There is no second derivative.

    Products are made in the wider type of states and table (float64 if the bias has it), under autocast in its type,
    and summed in float32 at least. The gradients are those of the sum over rows, each times what stands before it:
    PyTorch's own ``linear_cross_entropy`` (2.13), which is as frugal, has one loss for all rows, so that no row could
    have a weight of its own afterwards.

    Args:
        x: states.
        table: one row for each token.
        bias: one number for each token, or None.
        ids: the tokens; the loss of a row whose token the table does not have is NaN.
        elements: logits held at once; None is what suits the device.
    """
    if wide_type(x, table, *(() if bias is None else (bias,))) == torch.float64:  # which autocast leaves alone
        dtype = torch.float64
    elif torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    else:
        dtype = torch.promote_types(x.dtype, table.dtype)
    bias = None if bias is None else bias.to(torch.promote_types(dtype, torch.float32))
    return _LinearCrossEntropy.apply(x.to(dtype), table.to(dtype), bias, ids, elements)  # type: ignore[return-value]


class _LinearCrossEntropy(torch.autograd.Function):
    """Forward: log-sum-exp over tiles. Backward: the same tiles once more, and their share of each gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, bias: Tensor | None, ids: Tensor, elements: int | None) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        highest = x.new_full((len(x),), torch.finfo(wide).min, dtype=wide)
        total, own = torch.zeros_like(highest), torch.zeros_like(highest)
        with torch.autocast(x.device.type, enabled=False):
            for rows, tokens, logits in _tiles(x, table, bias, None, elements):
                place, here = _place(ids[rows], tokens)
                own[rows] += torch.where(here, logits.gather(1, place)[:, 0], 0.0)
                high = torch.maximum(highest[rows], logits.amax(1))
                found = logits.sub_(high[:, None]).exp_().sum(1)
                total[rows] = total[rows] * (highest[rows] - high).exp() + found
                highest[rows] = high
        total = highest + total.log()
        ctx.save_for_backward(x, table, bias, ids, total)
        ctx.elements = elements
        return torch.where((ids >= 0) & (ids < len(table)), total - own, torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, table, bias, ids, total = ctx.saved_tensors
        of_x, of_table, of_bias, *_ = (
            torch.zeros_like(each, dtype=total.dtype) if wanted else None
            for each, wanted in zip((x, table, bias), ctx.needs_input_grad, strict=False)
        )
        weighted = (x * grad[:, None]).to(x.dtype)  # rounded once
        with torch.autocast(x.device.type, enabled=False):
            for rows, tokens, logits in _tiles(x, table, bias, total, ctx.elements):
                slope = logits.exp_()
                place, here = _place(ids[rows], tokens)
                slope.scatter_add_(1, place, torch.where(here, -1.0, 0.0).to(slope.dtype)[:, None])
                if of_bias is not None:
                    of_bias[tokens].addmv_(slope.T, grad[rows])
                slope = slope.to(x.dtype)
                if of_x is not None:
                    _add_product(of_x[rows], slope, table[tokens])
                if of_table is not None:
                    _add_product(of_table[tokens], slope.T, weighted[rows])
        if of_x is not None:
            of_x *= grad[:, None]
        of_both = (None if found is None else found.to(x.dtype) for found in (of_x, of_table))
        return *of_both, of_bias, None, None


def _tiles(
    x: Tensor, table: Tensor, bias: Tensor | None, shift: Tensor | None, elements: int | None
) -> Iterator[tuple[slice, slice, Float[Tensor, "r c"]]]:
    """Which rows and which tokens, and their x table^T + bias - shift in float32 or better.

    Every tile takes the memory of the one before, and may be written to.
    """
    rows, tokens = shape_of_tile(len(x), len(table), x.device, elements)
    wide = torch.promote_types(x.dtype, torch.float32)
    is_wide = x.dtype == wide
    if is_wide:
        x, table = _beside(x, table, bias, shift)
    memory = x.new_empty(rows * tokens)
    for first in range(0, len(table), tokens):
        these = slice(first, min(first + tokens, len(table)))
        for start in range(0, len(x), rows):
            some = slice(start, min(start + rows, len(x)))
            shape = some.stop - some.start, these.stop - these.start
            logits = torch.mm(x[some], table[these].T, out=memory[: shape[0] * shape[1]].view(shape))
            if not is_wide:
                logits = logits.to(wide)
                logits = logits if bias is None else logits.add_(bias[these])
                logits = logits if shift is None else logits.sub_(shift[some, None])
            yield some, these, logits


def _beside(x: Tensor, table: Tensor, bias: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """[x, 1, -shift] and [table, bias, 1], so that the product adds both and no pass over the logits does."""
    left, right = [x], [table]
    if bias is not None:
        left, right = [*left, x.new_ones(len(x), 1)], [*right, bias[:, None]]
    if shift is not None:
        left, right = [*left, -shift[:, None]], [*right, table.new_ones(len(table), 1)]
    return torch.cat(left, 1), torch.cat(right, 1)


def _place(ids: Tensor, tokens: slice) -> tuple[Tensor, Tensor]:
    """The column of each row's own token, and whether it is among these."""
    place = ids - tokens.start
    here = (place >= 0) & (place < tokens.stop - tokens.start)
    return place.clamp(0, tokens.stop - tokens.start - 1)[:, None], here


def _add_product(to: Tensor, a: Tensor, b: Tensor) -> None:
    if to.dtype == a.dtype:
        to.addmm_(a, b)
    else:
        to += a @ b
