"""Binary cross-entropy of a discriminator's logits."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dlkit.kernels._twin import twin


@twin
def adversarial_bce(logits: Float[Tensor, "b *l"], real: bool) -> Float[Tensor, "b *l"]:
    """softplus(-D) where the text is to count as real, softplus(D) where it is not; float32 or better.

    The critic's loss (Goodfellow et al. 2014, arXiv 1406.2661), and with ``real`` of generated texts the non-saturating
    loss of the generator.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.softplus(-wide if real else wide)


@adversarial_bce.gradient
def _gradients(
    grad: Float[Tensor, "b *l"], wanted: tuple[bool, ...], logits: Float[Tensor, "b *l"], real: bool
) -> tuple[Float[Tensor, "b *l"], None]:
    """-sigmoid(-D), or sigmoid(D)."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    slope = -torch.sigmoid(-wide) if real else torch.sigmoid(wide)
    return (grad * slope).to(logits.dtype), None
