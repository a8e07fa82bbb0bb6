"""Loss (4) of DLM-One, its gradients left to autograd."""

from torch import Tensor


def score_distillation(x: Tensor, x0_teacher: Tensor, x0_fake: Tensor, mask: Tensor, mu: float) -> Tensor:
    """mean over samples of w [(1 - mu) d.d + d.r] / elements, w = 1 / mean |x - x0_teacher|."""
    keep = mask[..., None].to(x.dtype)
    count = keep.sum((1, 2)) * x.shape[-1]
    d, r = x0_teacher - x0_fake, x0_fake - x
    weight = (count / ((x - x0_teacher).abs() * keep).sum((1, 2))).detach()
    return (weight * (((1 - mu) * d * d + d * r) * keep).sum((1, 2)) / count).mean()
