"""Jumps along a learned flow map."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.samplers import register
from dlkit.samplers._base import Noise, Observer, Sampler
from dlkit.schedules._base import Schedule


@register(
    "flow_map",
    description="jumps of a student of two times, as many as you like, with a share of fresh noise after each",
    paper="FLM (arXiv 2602.16813); gamma: Kim et al. 2023, consistency trajectory models (arXiv 2310.02279)",
)
class FlowMapSampler(Sampler):
    """x_t = (alpha_t / alpha_u) X_{s,u}(x_s) + gamma sigma_t z, with log SNR_u = log SNR_t - log(1 - gamma^2).

    The jump from s goes past t, to the less noisy u whose state, made as small as one at t, lacks just the noise that
    is then added. gamma = 0 is deterministic, u = t; gamma = 1 jumps to clean text and noises it, as ``renoise`` does.
    The last jump is to clean text, where nothing is added. Times are 1, 1 - 1/n, ..., 1/n, 0, evenly spaced in the time
    that a network of a clock of its own is fed; one below the schedule's lowest time, where none is asked, is that one.

    X_{s,u}(x) = alpha_u D_{s,u}(x) + (sigma_u / sigma_s)(x - alpha_s D_{s,u}(x)). Of a network of one time D is
    E[x0 | x_s], and the jump is DDIM's step, Euler's along a straight flow.

    Attributes:
        steps: jumps; network calls.
        gamma: share of the noise that is drawn anew.
    """

    any_steps: ClassVar[bool] = True

    steps: int = Field(default=1, ge=1)
    gamma: float = Field(default=0.0, ge=0.0, le=1.0)

    def calls(self, schedule: Schedule) -> int:
        if schedule.positions is not None and 0.0 < self.gamma < 1.0:
            raise UserError(
                f"sampler 'flow_map' with gamma={self.gamma:g}: where each position has noise of its own, no time has "
                "that noise everywhere; set gamma=0 or 1"
            )
        return self.steps

    def path(self, schedule: Schedule) -> list[tuple[float, float]]:
        """The jumps (s, t)."""
        times = [max(1.0 - k / self.steps, schedule.t_min) for k in range(self.steps)]
        return list(pairwise([*times, 0.0]))

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        process = denoiser.process
        x = cond.apply(process.prior(noise(0)))
        for k, (now, to) in enumerate(self.path(process.noise_schedule)):
            s, t = (torch.full((len(x),), time, dtype=torch.float64, device=x.device) for time in (now, to))
            u = t if to == 0.0 else self.aim(process.noise_schedule, t)
            x0 = cond.apply(denoiser.predict(x, s, cond, end=u if denoiser.two_times else None).x0)
            if observe is not None:
                observe(k, now, x, x0)
            x = cond.apply(x0 if to == 0.0 else self.landed(process, x, x0, s, t, lambda k=k: noise(k + 1)))
        return x

    def landed(
        self,
        process: GaussianProcess,
        x: Float[Tensor, "b l d"],
        x0: Float[Tensor, "b l d"],
        s: Float[Tensor, " b"],
        t: Float[Tensor, " b"],
        z: Callable[[], Float[Tensor, "b l d"]],
    ) -> Float[Tensor, "b l d"]:
        """x_t by way of u: alpha_t D + sqrt(1 - gamma^2) sigma_t eps + gamma sigma_t z, DDIM's step with noise."""
        if self.gamma == 0.0:
            return process.ddim(x, x0, s, t)
        return process.ddim(x, x0, s, t, self.gamma * process.sigma(t, x), z())

    def aim(self, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """u."""
        if self.gamma in (0.0, 1.0):
            return t if self.gamma == 0.0 else torch.zeros_like(t)
        return schedule.inverse(schedule.log_snr(t) - math.log1p(-(self.gamma**2)))
