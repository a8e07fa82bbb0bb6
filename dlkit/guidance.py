"""Classifier-free guidance: a denoiser led away from what it says without the source."""

from collections.abc import Set as AbstractSet
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.denoiser import X0, Denoiser, Prediction
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.parameterization import Target


class Guided(Denoiser):
    """x0_w = x0_null + w (x0_cond - x0_null) by two network calls, of which the second is without the source.

    Ho & Salimans 2022 (arXiv 2207.12598), whose w is one less: here w = 1 is no guidance and w = 0 no source. What x0
    converts to at (x_t, t) is affine in it, so the same holds for eps, score, v and velocity: x0_w is Tweedie's
    estimate for the score of p(x_t) (p(x_t | c) / p(x_t))^w. Without the source all given positions hold the embedding
    of one token. The features are those of the call with it; logits are what the space's head reads in x0_w, also where
    the network puts out its own.

    Args:
        denoiser: trained with and without its sources; its weights are shared.
        scale: w.
        null_id: token that stands at every given position where there is no source, [PAD] here.
    """

    def __init__(self, denoiser: Denoiser, scale: float, null_id: int) -> None:
        super().__init__(denoiser.space, denoiser.process, denoiser.backbone, denoiser.prediction)
        self.scale, self.null_id, self.lower = scale, null_id, denoiser.lower

    def forward(
        self,
        x_t: Float[Tensor, "b l d"],
        t: Float[Tensor, " b"],
        cond: Condition | None,
        *,
        to: Target | None = None,
        want: AbstractSet[str] = X0,
        taps: tuple[int, ...] = (-1,),
        **options: Any,
    ) -> Prediction:
        """See :meth:`dlkit.denoiser.Denoiser.predict`. Raises ``ValueError`` where there is no condition to lead by."""
        if cond is None:
            raise ValueError("guidance needs a condition; call the network itself where there is none")
        told = super().forward(x_t, t, cond, to=to, want=want - {"logits"}, taps=taps, **options)
        free = super().forward(x_t, t, cond.dropped(null_state(self, self.null_id)), to=to, **options)
        x0 = self._led(free.x0, told.x0)
        value = x0 if to is None else self._led(free.value, told.value)
        logits = self.space.logits(x0) if "logits" in want else None
        return Prediction(x0, value, logits, told.features)

    def _led(self, free: Float[Tensor, "b l d"], told: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """In float32 or better: w magnifies what rounding leaves of the difference."""
        dtype = torch.promote_types(free.dtype, torch.float32)
        return torch.lerp(free.to(dtype), told.to(dtype), self.scale)


def guided(denoiser: Denoiser, scale: float, null_id: int) -> Denoiser:
    """The denoiser with guidance; itself where ``scale`` is 1, which needs no second call."""
    return denoiser if scale == 1.0 else Guided(denoiser, scale, null_id)


def null_state(denoiser: Denoiser, null_id: int) -> Float[Tensor, " d"]:
    """What stands at a given position where there is no source."""
    return denoiser.space.state(null_id)
