"""Terms that objectives share: pure functions of tensors."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def denoising(
    x0: Float[Tensor, "b l d"], target: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]
) -> Float[Tensor, " b"]:
    """Denoising score matching (DLM-One eq. 3 with gamma_t = 1): mean over masked elements of (x0 - target)^2.

    One number for each sample, float32 or better.
    """
    keep = mask[..., None]
    squared = (x0.to(target.dtype) - target).square() * keep
    return squared.sum((1, 2)) / (keep.sum((1, 2)) * target.shape[-1]).clamp_min(1)


def logistic(logit: Float[Tensor, " b"], real: bool) -> Float[Tensor, ""]:
    """Binary cross-entropy of a logit of "real": softplus(-logit) if it is real, softplus(logit) if not; batch mean."""
    return F.softplus(-logit if real else logit).mean()
