"""Flow maps in closed form: of Gaussian data, and of tokens by integration of the ODE."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlkit.diffusion import flow_map
from dlkit.diffusion.processes.gaussian import GaussianProcess

PROCESSES = {
    name: GaussianProcess.model_validate({"schedule": name})
    for name in ("rectified_flow", "sqrt", "cosine", "trig", "karras")
}
FLOW = PROCESSES["rectified_flow"]


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def quotient(process: GaussianProcess, x_s: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """D_{s,t} = (sigma_s x_t - sigma_t x_s) / (alpha_t sigma_s - alpha_s sigma_t) of the two ends of a jump."""
    gap = process.sigma(s, x_s) * x_t - process.sigma(t, x_s) * x_s
    return gap / flow_map.shaped(flow_map.sweep(process.noise_schedule, s, t), x_s)


@dataclass
class GaussianMap:
    """The exact map of texts N(mean, diag(variance)), every coordinate for itself.

    With V_t = alpha^2 v + sigma^2 the ODE keeps (x - alpha m) / sqrt(V), so

        D_{s,t}(x) = m + (x - alpha_s m) (sigma_s sqrt(V_t / V_s) - sigma_t) / (alpha_t sigma_s - alpha_s sigma_t)

    and D_{s,s} is the denoiser, m + (alpha_s v / V_s) (x - alpha_s m). For s near t the quotient is expanded: with
    a = alpha_t sigma_s - alpha_s sigma_t and b = alpha_s alpha_t v + sigma_s sigma_t it is
    (V_t sigma_s^2 - V_s sigma_t^2) / (a sqrt(V_s) (sigma_s sqrt(V_t) + sigma_t sqrt(V_s))), and the numerator is
    a v (alpha_t sigma_s + alpha_s sigma_t).
    """

    mean: Tensor
    variance: Tensor
    process: GaussianProcess = field(default_factory=lambda: FLOW)

    def spread(self, t: Tensor, like: Tensor) -> Tensor:
        """sqrt(V_t)."""
        return (self.process.alpha(t, like).square() * self.variance + self.process.sigma(t, like).square()).sqrt()

    def __call__(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """D_{s,t}(x)."""
        process = self.process
        a_s, a_t, o_s, o_t = (f(r, x) for f in (process.alpha, process.sigma) for r in (s, t))
        v_s, v_t = self.spread(s, x), self.spread(t, x)
        gain = self.variance * (a_t * o_s + a_s * o_t) / (v_s * (o_s * v_t + o_t * v_s))
        return self.mean + gain * (x - a_s * self.mean)

    def jump(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """X_{s,t}(x) itself, without D."""
        alpha = self.process.alpha
        return alpha(t, x) * self.mean + self.spread(t, x) / self.spread(s, x) * (x - alpha(s, x) * self.mean)


@dataclass
class TokenMap:
    """The map of one-hot texts whose tokens are drawn from given shares, every position for itself.

    With y = x / sigma the ODE is dy / d rho = softmax(log p + rho y - rho^2 / 2); D_{s,t} is the mean of the right side
    over rho, here by Runge-Kutta's steps, which is a distribution.
    """

    log_shares: Tensor
    process: GaussianProcess = field(default_factory=lambda: FLOW)
    steps: int = 64

    def denoise(self, y: Tensor, rho: Tensor) -> Tensor:
        return (self.log_shares + rho * y).softmax(-1)

    def __call__(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """D_{s,t}(x), for t above clean text."""
        process = self.process
        begin, end = (process.alpha(r, x) / process.sigma(r, x) for r in (s, t))
        y, total, h = x / process.sigma(s, x), torch.zeros_like(x), (end - begin) / self.steps
        for k in range(self.steps):
            slope = runge_kutta(self.denoise, y, begin + k * h, h)
            y, total = y + h * slope, total + slope / self.steps
        return total


def runge_kutta(f: Callable[[Tensor, Tensor], Tensor], y: Tensor, at: Tensor, h: Tensor) -> Tensor:
    """The mean slope of a step of the classical method."""
    k1 = f(y, at)
    k2 = f(y + h / 2 * k1, at + h / 2)
    k3 = f(y + h / 2 * k2, at + h / 2)
    return (k1 + 2 * k2 + 2 * k3 + f(y + h * k3, at + h)) / 6
