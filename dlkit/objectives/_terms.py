"""Terms that objectives share: pure functions of tensors."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dlkit.spaces._base import TokenSpace


def denoising(
    x0: Float[Tensor, "b l d"], target: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]
) -> Float[Tensor, " b"]:
    """Denoising score matching (DLM-One eq. 3 with gamma_t = 1): mean over masked elements of (x0 - target)^2.

    One number for each sample, float32 or better.
    """
    keep = mask[..., None]
    squared = (x0.to(target.dtype) - target).square() * keep
    return squared.sum((1, 2)) / (keep.sum((1, 2)) * target.shape[-1]).clamp_min(1)


def wide(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """float32 or better."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def per_sample(values: Float[Tensor, "b *l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, " b"]:
    """One number for each sample: the mean over masked positions, where there is a value for each position.

    A sample without masked positions counts as zero then.
    """
    if values.ndim == 1:
        return values
    return (values * mask).sum(1) / mask.sum(1).clamp_min(1)


def token_error(
    x0: Float[Tensor, "b l d"], target: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"], space: TokenSpace
) -> Float[Tensor, " b"]:
    """Cross-entropy of the target's tokens under the logits of x0, mean over masked positions.

    One number for each sample, float32 or better; the target's tokens are its likeliest ones.
    """
    tokens = space.logits(target.detach()).argmax(-1)
    error = F.cross_entropy(wide(space.logits(x0)).transpose(1, 2), tokens, reduction="none")
    return per_sample(error, mask)


def fitted(
    x0: Float[Tensor, "b l d"],
    target: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    space: TokenSpace,
    tokens: float,
) -> dict[str, Float[Tensor, ""]]:
    """The square error to a target and, with weight ``tokens``, the error of its tokens; means over the batch."""
    terms = {"regression": denoising(x0, target, mask).mean()}
    if tokens:
        terms["tokens"] = tokens * token_error(x0, target, mask, space).mean()
    return terms


def added(terms: dict[str, Float[Tensor, ""]], more: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
    """Both groups of terms in one; those of the same name are added up."""
    return terms | {name: terms[name] + term if name in terms else term for name, term in more.items()}
