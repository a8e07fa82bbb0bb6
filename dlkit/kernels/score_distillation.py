"""The score-distillation loss of SiD, DMD and Diff-Instruct, with its gradients in closed form."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Weight = Literal["l1", "none"]
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
    sample_weight: Float[Tensor, "b *l"] | None = None,
) -> Float[Tensor, ""]:
    """DLM-One eq. 4 (SiD, Zhou et al. 2024, arXiv 2404.04057, eq. 23).

    With d = x0_teacher - x0_fake and r = x0_fake - x, for each sample

        L = w sum_{masked} [ (1 - mu) d.d + d.r ]

        dL/dx = -w d,   dL/dx0_teacher = w (2 (1 - mu) d + r),   dL/dx0_fake = w (d - 2 (1 - mu) d - r)

    ``detach_scores`` drops the last two; what is left, dL/dx = w (x0_fake - x0_teacher), is the gradient of DMD and
    Diff-Instruct for every mu. The weight w carries no gradient. It is ``sample_weight``, if given, times

        l1    1 / mean_{masked} |x - x0_teacher|   (C / |x - x0_teacher|_1 of the paper)
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
        weight, reduction, detach_scores: as above.
        sample_weight: a factor of each sample, a function of its time for example, or of each of its positions; it gets
            no gradient.
    """
    return _ScoreDistillation.apply(x, x0_teacher, x0_fake, mask, mu, weight, reduction, detach_scores, sample_weight)  # type: ignore[return-value]


@torch.no_grad()
def sample_scale(
    x: Float[Tensor, "b l d"],
    x0_teacher: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    weight: Weight,
    reduction: Reduction,
    sample_weight: Float[Tensor, "b *l"] | None = None,
) -> Float[Tensor, "b _ 1"]:
    """What multiplies the sum over a sample: its weight over its share of the reduction; float32 or better."""
    wide = torch.promote_types(x.dtype, torch.float32)
    keep = mask[..., None].to(wide)
    tokens = keep.sum((1, 2), keepdim=True).clamp_min(1.0)
    scale = torch.ones_like(tokens) if sample_weight is None else sample_weight.to(wide).reshape(len(x), -1, 1)
    if weight == "l1":
        distance = ((x.to(wide) - x0_teacher.to(wide)).abs() * keep).sum((1, 2), keepdim=True)
        scale = scale / (distance / (tokens * x.shape[-1])).clamp_min(_SMALLEST_L1)
    divisor = {"mean": tokens * x.shape[-1], "token_mean": tokens, "sum": torch.ones_like(tokens)}[reduction]
    return scale / (divisor * len(x))


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
        sample_weight: Tensor | None,
    ) -> Tensor:
        dtypes = x.dtype, x0_teacher.dtype, x0_fake.dtype
        wide = torch.promote_types(x.dtype, torch.float32)
        x, x0_teacher, x0_fake = x.to(wide), x0_teacher.to(wide), x0_fake.to(wide)
        keep = mask[..., None].to(wide)
        d, r = (x0_teacher - x0_fake) * keep, (x0_fake - x) * keep
        scale = sample_scale(x, x0_teacher, mask, weight, reduction, sample_weight)
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
