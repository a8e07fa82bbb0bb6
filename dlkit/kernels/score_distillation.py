"""The score-distillation loss of SiD, DMD and Diff-Instruct, with its gradients in closed form."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dlkit.kernels._twin import twin
from dlkit.kernels._wide import wide_type

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

    Compiled, the forward pass reads the three states once, and the backward pass reads them and writes what gradients
    are wanted, already times the gradient of the loss; nothing as large is kept in between.

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
def score_distillation_gradients(
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
) -> tuple[Float[Tensor, ""], Float[Tensor, "b l d"], Float[Tensor, "b l d"] | None, Float[Tensor, "b l d"] | None]:
    """The loss of :func:`score_distillation` and dL/dx, dL/dx0_teacher, dL/dx0_fake, without a graph.

    For callers that take the gradients through one network after the other. With ``detach_scores`` the last two are
    None. Each gradient has the type of what it is the gradient of; arguments are those of :func:`score_distillation`.
    """
    loss, scale = _loss(x, x0_teacher, x0_fake, mask, mu, weight, reduction, sample_weight)
    wanted = (True, not detach_scores, not detach_scores)
    return loss, *_gradients(x, x0_teacher, x0_fake, scale, torch.ones_like(loss), mu, *wanted)  # type: ignore[return-value]


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
    wide = wide_type(x, x0_teacher)
    distance = (x.to(wide) - x0_teacher.to(wide)).abs().sum(-1)
    return _scale(distance, mask.to(wide), x.shape[-1], weight, reduction, sample_weight)[..., None]


def _scale(
    distance: Float[Tensor, "b l"],
    keep: Float[Tensor, "b l"],
    width: int,
    weight: Weight,
    reduction: Reduction,
    sample_weight: Float[Tensor, "b *l"] | None,
) -> Float[Tensor, "b _"]:
    """The same of |x - x0_teacher|_1 of each position."""
    tokens = keep.sum(1, keepdim=True).clamp_min(1.0)
    scale = torch.ones_like(tokens) if sample_weight is None else sample_weight.to(keep)
    scale = scale if scale.ndim == 2 else scale[:, None]  # no reshape to -1, which inductor 2.13 compiles wrongly
    if weight == "l1":
        scale = scale / ((distance * keep).sum(1, keepdim=True) / (tokens * width)).clamp_min(_SMALLEST_L1)
    divisor = {"mean": tokens * width, "token_mean": tokens, "sum": torch.ones_like(tokens)}[reduction]
    return scale / (divisor * len(keep))


@twin
def _loss(
    x: Float[Tensor, "b l d"],
    x0_teacher: Float[Tensor, "b l d"],
    x0_fake: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    mu: float,
    weight: Weight,
    reduction: Reduction,
    sample_weight: Float[Tensor, "b *l"] | None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "b l"]]:
    """The loss, and what multiplies each position's share of it."""
    wide = wide_type(x, x0_teacher, x0_fake)
    keep, x, teacher, fake = mask.to(wide), x.to(wide), x0_teacher.to(wide), x0_fake.to(wide)
    d = teacher - fake
    share = (d * ((1.0 - mu) * d + (fake - x))).sum(-1)
    distance = (x - teacher).abs().sum(-1)  # over the same range as the line above, so that one pass gives both
    scale = keep * _scale(distance, keep, x.shape[-1], weight, reduction, sample_weight)
    return (scale * share).sum(), scale


@twin
def _gradients(
    x: Float[Tensor, "b l d"],
    x0_teacher: Float[Tensor, "b l d"],
    x0_fake: Float[Tensor, "b l d"],
    scale: Float[Tensor, "b l"],
    grad_loss: Float[Tensor, ""],
    mu: float,
    of_x: bool,
    of_teacher: bool,
    of_fake: bool,
) -> tuple[Float[Tensor, "b l d"] | None, Float[Tensor, "b l d"] | None, Float[Tensor, "b l d"] | None]:
    """The three gradients, times that of the loss."""
    wide, factor = scale.dtype, (scale * grad_loss)[..., None]
    fake = x0_fake.to(wide)
    d, r = x0_teacher.to(wide) - fake, fake - x.to(wide)
    pull = 2.0 * (1.0 - mu) * d + r
    grad_x = (-factor * d).to(x.dtype) if of_x else None
    grad_teacher = (factor * pull).to(x0_teacher.dtype) if of_teacher else None
    grad_fake = (factor * (d - pull)).to(x0_fake.dtype) if of_fake else None
    return grad_x, grad_teacher, grad_fake


class _ScoreDistillation(torch.autograd.Function):
    """Each pass reads the states; between them one number for each position is kept."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        x, x0_teacher, x0_fake, mask, mu, weight, reduction, detach_scores, sample_weight = args
        states = x.detach(), x0_teacher.detach(), x0_fake.detach()
        loss, scale = _loss(*states, mask, mu, weight, reduction, sample_weight)
        ctx.save_for_backward(x, x0_teacher, x0_fake, scale)
        ctx.mu, ctx.detach_scores = mu, detach_scores
        return loss

    @staticmethod
    @once_differentiable  # the weight's dependence on the states is left out
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        wanted = [asked and not (ctx.detach_scores and at) for at, asked in enumerate(ctx.needs_input_grad[:3])]
        args: tuple[Any, ...] = (*(each.detach() for each in ctx.saved_tensors), grad_loss, ctx.mu, *wanted)
        found = _gradients(*args)
        return (*found, None, None, None, None, None, None)
