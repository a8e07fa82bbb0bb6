"""DiffuSeq-v2's forward process."""

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from dlkit.diffusion.processes import register
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.schedules._base import VarianceExploding


@register(
    "mean_shift",
    description="gaussian around a learned mean, into which whole tokens are absorbed; prior N(m, I)",
    paper="Gong et al. 2023, DiffuSeq-v2 (arXiv 2310.05793)",
    licence="MIT (original code)",
)
class MeanShift(GaussianProcess):
    """x_t = m + alpha(t) (x0 - m) + sigma(t) eps, where the network learns m (``space.mean_embed``).

    In training a token of x_t then becomes m with probability ``absorb_rate`` sigma(t), and the ancestral sampler does
    the same after each step with the standard deviation of that step in place of sigma(t).

    Attributes:
        absorb_rate: .5 in the original's training script, .2 in its code; 0 absorbs nothing.
    """

    absorb_rate: float = Field(default=0.5, ge=0.0, le=1.0)
    learns_mean: ClassVar[bool] = True

    @model_validator(mode="after")
    def _texts_fade(self) -> Self:
        if isinstance(self.schedule, VarianceExploding):
            name = self.schedule.registered_name
            raise ValueError(f"schedule {name!r} never lets texts fade into a mean; use the process gaussian")
        return self

    def absorb(
        self, x: Float[Tensor, "b l d"], sigma: Float[Tensor, "b *n"], uniforms: Callable[[], Float[Tensor, "b l"]]
    ) -> Float[Tensor, "b l d"]:
        """Tokens replaced by m, each with probability ``absorb_rate`` sigma; only then are uniforms drawn.

        Raises:
            ValueError: m is not known; take the process from a denoiser.
        """
        if self.absorb_rate == 0.0:
            return x
        if self.mean is None:
            raise ValueError("this process has no mean to absorb tokens into; use the process of a Denoiser")
        gone = uniforms() < self.absorb_rate * sigma.reshape(len(sigma), -1)
        return torch.where(gone[..., None], self.mean.to(x.dtype), x)
