"""The denoising loss of every sample."""

from jaxtyping import Bool, Float
from torch import Tensor

from dlkit.kernels._twin import twin
from dlkit.kernels._wide import wide_type


@twin
def denoising_mse(
    x0: Float[Tensor, "b l d"], target: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]
) -> Float[Tensor, " b"]:
    """Denoising score matching (DLM-One eq. 3 with gamma_t = 1): mean over masked elements of (x0 - target)^2.

    One number for each sample, float32 or better; a sample without masked positions counts as zero.
    """
    keep = mask[..., None]
    wide = wide_type(x0, target)
    squared = (x0.to(wide) - target.to(wide)).square() * keep
    return squared.sum((1, 2)) / (keep.sum((1, 2)) * target.shape[-1]).clamp_min(1)


@denoising_mse.gradient
def _gradients(
    grad: Float[Tensor, " b"],
    wanted: tuple[bool, ...],
    x0: Float[Tensor, "b l d"],
    target: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
) -> tuple[Float[Tensor, "b l d"] | None, Float[Tensor, "b l d"] | None, None]:
    """2 (x0 - target) / (masked elements), and minus that, at masked positions."""
    wide = wide_type(x0, target)
    each = 2.0 * grad / (mask.sum(1) * target.shape[-1]).clamp_min(1)
    slope = (each[:, None] * mask)[..., None] * (x0.to(wide) - target.to(wide))
    return slope.to(x0.dtype) if wanted[0] else None, (-slope).to(target.dtype) if wanted[1] else None, None
