"""Terms that objectives share: pure functions of tensors."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def denoising(
    x0: Float[Tensor, "b l d"], target: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]
) -> Float[Tensor, " b"]:
    """Denoising score matching (DLM-One eq. 3 with gamma_t = 1): mean over masked elements of (x0 - target)^2.

    One number for each sample, float32 or better.
    """
    keep = mask[..., None]
    squared = (x0.to(target.dtype) - target).square() * keep
    return squared.sum((1, 2)) / (keep.sum((1, 2)) * target.shape[-1]).clamp_min(1)


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
