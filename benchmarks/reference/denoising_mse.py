"""The denoising loss."""

from torch import Tensor


def denoising_mse(x0: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mean of (x0 - target)^2 over masked elements of each sample."""
    keep = mask[..., None].to(x0.dtype)
    return ((x0 - target) ** 2 * keep).sum((1, 2)) / (keep.sum((1, 2)) * x0.shape[-1]).clamp_min(1)
