"""The score-distillation loss of SiD, DMD and Diff-Instruct, with its gradients in closed form."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Weight = Literal["l1", "snr", "none"]
Reduction = Literal["mean", "token_mean", "sum"]

_SMALLEST_L1 = 1e-5  # SiD clips its denominator here


def score_distillation(
    x: Float[Tensor, "b l d"],
    x0_teacher: Float[Tensor, "b l d"],
    x0_fake: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    *,
    mu: float,
    weight: Weight = "l1",
    reduction: Reduction = "mean",
    detach_scores: bool = False,
    snr_weight: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """DLM-One eq. 4 (SiD, Zhou et al. 2024, arXiv 2404.04057, eq. 23).

    With d = x0_teacher - x0_fake and r = x0_fake - x, for each sample

        L = w sum_{masked} [ (1 - mu) d.d + d.r ]

        dL/dx = -w d,   dL/dx0_teacher = w (2 (1 - mu) d + r),   dL/dx0_fake = w (d - 2 (1 - mu) d - r)

    ``detach_scores`` drops the last two; what is left, dL/dx = w (x0_fake - x0_teacher), is the gradient of DMD and
    Diff-Instruct for every mu. The weight w carries no gradient:

        l1    1 / mean_{masked} |x - x0_teacher|   (C / |x - x0_teacher|_1 of the paper)
        snr   ``snr_weight``, the paper's omega_t alpha_t^2 / sigma_t^4
        none  1

    Reductions divide the sum over the batch by: ``mean`` b * (masked elements of the sample), ``token_mean`` b *
    (masked tokens of the sample), ``sum`` b. Arithmetic is done in float32 or better; float64 stays float64. A sample
    without masked positions counts as zero. There is no second derivative.

    Args:
        x: the student's output e.
        x0_teacher: the teacher's posterior mean at the noised x.
        x0_fake: the fake score's.
        mask: True where the loss counts.
        mu: the paper's mu (SiD's alpha).
        weight, reduction, detach_scores, snr_weight: as above.

    Raises:
        ValueError: ``weight`` is "snr" and no ``snr_weight`` was given.
    """
    if weight == "snr" and snr_weight is None:
        raise ValueError("weight='snr' needs snr_weight, one number for each sample")
    return _ScoreDistillation.apply(x, x0_teacher, x0_fake, mask, mu, weight, reduction, detach_scores, snr_weight)  # type: ignore[return-value]


class _ScoreDistillation(torch.autograd.Function):
    """One pass forward that also forms the three gradients, so that backward is a multiplication."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        x0_teacher: Tensor,
        x0_fake: Tensor,
        mask: Tensor,
        mu: float,
        weight: Weight,
        reduction: Reduction,
        detach_scores: bool,
        snr_weight: Tensor | None,
    ) -> Tensor:
        dtypes = x.dtype, x0_teacher.dtype, x0_fake.dtype
        wide = torch.promote_types(x.dtype, torch.float32)
        x, x0_teacher, x0_fake = x.to(wide), x0_teacher.to(wide), x0_fake.to(wide)
        keep = mask[..., None].to(wide)
        d, r = (x0_teacher - x0_fake) * keep, (x0_fake - x) * keep
        scale = _sample_scale(x, x0_teacher, keep, weight, reduction, snr_weight)
        pull = 2.0 * (1.0 - mu) * d + r
        loss = (scale * d * ((1.0 - mu) * d + r)).sum()
        grad_x = (-scale * d).to(dtypes[0])
        grad_teacher = None if detach_scores else (scale * pull).to(dtypes[1])
        grad_fake = None if detach_scores else (scale * (d - pull)).to(dtypes[2])
        ctx.save_for_backward(grad_x, grad_teacher, grad_fake)  # type: ignore[arg-type]
        return loss

    @staticmethod
    @once_differentiable  # the stored gradients know nothing of what they were made from
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scaled = (None if g is None else g * grad_loss.to(g.dtype) for g in ctx.saved_tensors)  # type: ignore[attr-defined]
        return (*scaled, None, None, None, None, None, None)


def _sample_scale(
    x: Tensor, x0_teacher: Tensor, keep: Tensor, weight: Weight, reduction: Reduction, snr_weight: Tensor | None
) -> Float[Tensor, "b 1 1"]:
    """The factor of each sample: its weight over its share of the reduction."""
    batch, _, width = x.shape
    tokens = keep.sum((1, 2), keepdim=True).clamp_min(1.0)
    if weight == "l1":
        mean_l1 = ((x - x0_teacher).abs() * keep).sum((1, 2), keepdim=True) / (tokens * width)
        scale = 1.0 / mean_l1.clamp_min(_SMALLEST_L1)
    elif weight == "snr":
        assert snr_weight is not None
        scale = snr_weight.to(x.dtype)[:, None, None]
    else:
        scale = torch.ones_like(tokens)
    divisor = {"mean": tokens * width, "token_mean": tokens, "sum": torch.ones_like(tokens)}[reduction]
    return scale / (divisor * batch)
