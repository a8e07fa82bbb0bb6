"""Euler's method along the straight flow."""

from itertools import pairwise

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.samplers import register
from dlkit.samplers._base import Step, Walk
from dlkit.schedules._base import Schedule


@register(
    "euler",
    description="straight steps from noise to text at times 1, 1 - 1/n, ..., 1/n; deterministic, FLM's own",
    paper="FLM (arXiv 2602.16813); Lipman et al. 2022, flow matching (arXiv 2210.02747)",
)
class Euler(Walk):
    """x_s = x + (c_s - c) v, v = (x0 - x) / (1 - c + guard), for x = c x0 + (1 - c) eps; the last step goes to x0.

    Every Gaussian process is such a straight flow but for the size of its states: x / (alpha + sigma) has the share
    c = alpha / (alpha + sigma) of text, and the step is taken there. On a straight flow v is constant where x0 is, so
    with ``guard=0`` this is DDIM, on another grid: one that is even from 1 to 0 whatever the schedule's lowest time is.

    Where states are one-hot, three of them are held at once.

    Attributes:
        guard: keeps the quotient finite at c = 1; the original's is 1e-5.
    """

    steps: int = Field(default=128, ge=1)
    guard: float = Field(default=1e-5, ge=0.0)

    def path(self, schedule: Schedule) -> list[tuple[float, float]]:
        return list(pairwise(1.0 - k / self.steps for k in range(self.steps + 1)))

    def step(self, process: GaussianProcess, now: Step) -> Float[Tensor, "b l d"]:
        like = now.x_t[..., :1].double()
        alpha, sigma = process.alpha(now.t, like), process.sigma(now.t, like)
        alpha_s, sigma_s = process.alpha(now.s, like), process.sigma(now.s, like)
        size, size_s = alpha + sigma, alpha_s + sigma_s
        way = (alpha_s / size_s - alpha / size) / (sigma / size + self.guard)
        on_x, on_x0 = (1.0 - way) * size_s / size, way * size_s
        dtype = now.x_t.dtype
        x_s = (on_x0.to(dtype) * now.x0).addcmul_(on_x.to(dtype), now.x_t)
        return x_s if process.mean is None else x_s + (1.0 - on_x - on_x0).to(x_s.dtype) * process.mean
