"""Terms that objectives share: pure functions of tensors."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dlkit.kernels.denoising_mse import denoising_mse
from dlkit.spaces._base import TokenSpace


def wide(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """float32 or better."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def per_sample(values: Float[Tensor, "b *l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, " b"]:
    """One number for each sample: the mean over masked positions, where there is a value for each position.

    A sample without masked positions counts as zero then.
    """
    if values.ndim == 1:
        return values
    return (values * mask).sum(1) / mask.sum(1).clamp_min(1)


def token_error(
    x0: Float[Tensor, "b l d"], target: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"], space: TokenSpace
) -> Float[Tensor, " b"]:
    """Cross-entropy of the target's tokens under the logits of x0, mean over masked positions.

    One number for each sample, float32 or better; the target's tokens are its likeliest ones.
    """
    return per_sample(space.cross_entropy(x0, space.likeliest(target)), mask)


def fitted(
    x0: Float[Tensor, "b l d"],
    target: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    space: TokenSpace,
    tokens: float,
) -> dict[str, Float[Tensor, ""]]:
    """The square error to a target and, with weight ``tokens``, the error of its tokens; means over the batch."""
    terms = {"regression": denoising_mse(x0, target, mask).mean()}
    if tokens:
        terms["tokens"] = tokens * token_error(x0, target, mask, space).mean()
    return terms
