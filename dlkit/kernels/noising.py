"""Noising of a batch with its given positions held fixed."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dlkit.kernels._twin import twin


@twin
def noising(
    x0: Float[Tensor, "b *n"],
    eps: Float[Tensor, "b *n"],
    alpha: Float[Tensor, "b *l"],
    sigma: Float[Tensor, "b *l"],
    anchor: Float[Tensor, "b *n"] | None = None,
    mask: Bool[Tensor, "b _"] | None = None,
) -> Float[Tensor, "b *n"]:
    """alpha x0 + sigma eps where the mask is True, the anchor elsewhere.

    Args:
        x0: clean states.
        eps: standard normal noise.
        alpha, sigma: of each sample [b], or of each of its positions [b, l].
        anchor: states of the given positions; with None, or without a mask, every position is noised.
        mask: True where the text is generated; states are [b, l, d] then.
    """
    x_t = _like(alpha, x0) * x0 + _like(sigma, x0) * eps
    return x_t if anchor is None or mask is None else torch.where(mask[..., None], x_t, anchor.to(x_t.dtype))


@noising.gradient
def _gradients(
    grad: Float[Tensor, "b *n"],
    wanted: tuple[bool, ...],
    x0: Float[Tensor, "b *n"],
    eps: Float[Tensor, "b *n"],
    alpha: Float[Tensor, "b *l"],
    sigma: Float[Tensor, "b *l"],
    anchor: Float[Tensor, "b *n"] | None = None,
    mask: Bool[Tensor, "b _"] | None = None,
) -> tuple[Tensor | None, ...]:
    """(alpha grad, sigma grad, x0 . grad, eps . grad, 0) where the mask is True, (0, 0, 0, 0, grad) elsewhere."""
    anchored = anchor is not None and mask is not None
    noised = torch.where(mask[..., None], grad, 0.0) if anchored else grad  # type: ignore[index]
    of_anchor = torch.where(mask[..., None], 0.0, grad).to(anchor.dtype) if anchored else None  # type: ignore
    return (
        (_like(alpha, x0) * noised).to(x0.dtype) if wanted[0] else None,
        (_like(sigma, x0) * noised).to(eps.dtype) if wanted[1] else None,
        _summed(x0 * noised, alpha) if wanted[2] else None,
        _summed(eps * noised, sigma) if wanted[3] else None,
        of_anchor,
        None,
    )


def _summed(values: Float[Tensor, "b *n"], like: Float[Tensor, "b *l"]) -> Float[Tensor, "b *l"]:
    """The sum over what a coefficient multiplies."""
    return values.reshape(*like.shape, -1).sum(-1).to(like.dtype)


def _like(coefficient: Float[Tensor, "b *l"], x: Float[Tensor, "b *n"]) -> Float[Tensor, "b *m"]:
    """[b] -> [b, 1, ...] or [b, l] -> [b, l, 1, ...] in the type of ``x``."""
    return coefficient.to(x.dtype).reshape(*coefficient.shape, *(1,) * (x.ndim - coefficient.ndim))
