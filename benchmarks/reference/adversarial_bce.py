"""Binary cross-entropy of a discriminator."""

import torch
from torch import Tensor
from torch.nn import functional as F


def adversarial_bce(logits: Tensor, real: bool) -> Tensor:
    """Against ones, or against zeros."""
    target = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
