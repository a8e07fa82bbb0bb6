"""What a sampler is."""

from abc import abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.kernels.nearest_token import nearest_token
from dlkit.part import Part

Noise = Callable[[int], Float[Tensor, "b l d"]]
"""noise(k): the k-th standard normal state of a run; 0 is the start."""

Observer = Callable[[int, float, Float[Tensor, "b l d"], Float[Tensor, "b l d"]], None]
"""observer(k, t, x_t, x0): called after each network call with what went in and what came out."""


class Sampler(Part):
    """From noise to a clean state.

    Attributes:
        steps: network calls.
    """

    steps: int = Field(default=1, ge=1)

    @abstractmethod
    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        """Run the sampler; the given positions of the result are the condition's anchor."""


class GridSampler(Sampler):
    """A sampler that walks t_1 = 1 > t_2 > ... > t_n > 0 with one network call at each, then lands on t = 0.

    Attributes:
        rounding: replace every prediction of x0 by its nearest embedding before it is used, as DiffuSeq does.
    """

    steps: int = Field(default=50, ge=1)
    rounding: bool = False

    @abstractmethod
    def step(
        self, denoiser: Denoiser, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, noise: Callable[[], Tensor]
    ) -> Tensor:
        """From x_t at t to x_s at s > 0, given the prediction of x0."""

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        x = cond.apply(noise(0))
        grid = [*denoiser.process.noise_schedule.grid(self.steps), 0.0]
        for k, (t_now, t_next) in enumerate(pairwise(grid)):
            t = torch.full((len(x),), t_now, dtype=torch.float64, device=x.device)
            x0 = denoiser.predict(x, t, cond).x0
            if self.rounding:
                x0 = denoiser.space.embed(nearest_token(x0, denoiser.space.table)).to(x0.dtype)
            if observe is not None:
                observe(k, t_now, x, x0)
            if t_next == 0.0:
                x = x0  # every posterior and every ODE solution at t = 0 is x0 itself
            else:
                x = self.step(denoiser, x, x0, t, torch.full_like(t, t_next), lambda k=k: noise(k + 1))
            x = cond.apply(x)
        return x
