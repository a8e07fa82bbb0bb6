"""The score-distillation loss of SiD, DMD and Diff-Instruct, with its gradients in closed form."""

from typing import Any, Literal, get_args

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

    The forward pass finds what gradients are wanted along with the loss, and they alone are kept, in float32 or better.
    The backward pass multiplies them by the gradient of the loss; on a CPU only where that is not 1.

    Args:
        x: the student's output e.
        x0_teacher: the teacher's posterior mean at the noised x.
        x0_fake: the fake score's.
        mask: True where the loss counts.
        mu: the paper's mu (SiD's alpha).
        weight, reduction, detach_scores: as above.
        sample_weight: a factor of each sample, a function of its time for example, or of each of its positions; it gets
            no gradient.

    Raises:
        ValueError: an unknown weight or reduction.
    """
    _require_known(weight, reduction)
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
    _require_known(weight, reduction)
    wanted = (True, not detach_scores, not detach_scores)
    loss, *found = _loss(x, x0_teacher, x0_fake, mask, mu, weight, reduction, sample_weight, *wanted)
    states = x, x0_teacher, x0_fake
    return loss, *(None if g is None else g.to(state.dtype) for g, state in zip(found, states, strict=True))  # type: ignore[return-value]


def _require_known(weight: str, reduction: str) -> None:
    for given, known in ((weight, get_args(Weight)), (reduction, get_args(Reduction))):
        if given not in known:
            raise ValueError(f"{given!r} is none of {', '.join(known)}")


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
    of_x: bool,
    of_teacher: bool,
    of_fake: bool,
) -> tuple[
    Float[Tensor, ""], Float[Tensor, "b l d"] | None, Float[Tensor, "b l d"] | None, Float[Tensor, "b l d"] | None
]:
    """The loss and those of its gradients that are wanted."""
    wide = wide_type(x, x0_teacher, x0_fake)
    keep, x, teacher, fake = mask.to(wide), x.to(wide), x0_teacher.to(wide), x0_fake.to(wide)
    d, r = teacher - fake, fake - x
    share = (d * ((1.0 - mu) * d + r)).sum(-1)
    distance = (x - teacher).abs().sum(-1)  # over the same range as the line above, so that one pass gives both
    scale = keep * _scale(distance, keep, x.shape[-1], weight, reduction, sample_weight)
    factor, pull = scale[..., None], 2.0 * (1.0 - mu) * d + r
    return (
        (scale * share).sum(),
        -factor * d if of_x else None,
        factor * pull if of_teacher else None,
        factor * (d - pull) if of_fake else None,
    )


class _ScoreDistillation(torch.autograd.Function):
    """One pass over the states for loss and gradients, of which only the gradients are kept."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        x, x0_teacher, x0_fake, mask, mu, weight, reduction, detach_scores, sample_weight = args
        states = x.detach(), x0_teacher.detach(), x0_fake.detach()
        wanted = [asked and not (detach_scores and at) for at, asked in enumerate(ctx.needs_input_grad[:3])]
        loss, *found = _loss(*states, mask, mu, weight, reduction, sample_weight, *wanted)
        ctx.save_for_backward(*found)
        ctx.types = [state.dtype for state in states]
        return loss

    @staticmethod
    @once_differentiable  # the weight's dependence on the states is left out
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        is_one = _is_one(grad_loss)
        grads = (
            None if grad is None else (grad if is_one else grad * grad_loss).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        )
        return (*grads, None, None, None, None, None, None)


def _is_one(number: Float[Tensor, ""]) -> bool:
    """Whether it is 1, where that can be seen without waiting for a device, and without breaking a graph."""
    return number.is_cpu and not torch.compiler.is_compiling() and number.item() == 1.0
