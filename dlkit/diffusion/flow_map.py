"""The flow map of a Gaussian process: where the probability-flow ODE takes a state, in one jump of any length.

Divided by sigma a state moves on with rho = alpha / sigma alone: d(x / sigma) = E[x0 | x] d rho. So the map X_{s,t}
from the state x at s to the state at t is

    X_{s,t}(x) / sigma_t = x / sigma_s + (rho_t - rho_s) D_{s,t}(x)

where D_{s,t}, the two-time denoiser, is the mean of E[x0 | x_r] over the way, every d rho counting alike: an x0, and
within the simplex where x0 is one-hot. D_{s,s} = E[x0 | x_s]. Given D, the jump is DDIM's step, ``process.ddim(x, D, s,
t)``. Differentiating, and joining two jumps, gives three identities that D_{s,t} alone satisfies together with its
diagonal; each is the target of an objective, with the derivatives and the inner D from a network that does not learn:

    semigroup    D_{s,t}(x) = l D_{s,u}(x) + (1 - l) D_{u,t}(X_{s,u}(x)),  l = (rho_u - rho_s) / (rho_t - rho_s)
    Lagrangian   D_{s,t}(x) = D_{t,t}(X_{s,t}(x)) - (rho_t - rho_s) / rho_t'  d/dt D_{s,t}(x)
    Eulerian     D_{s,t}(x) = D_{s,s}(x) + (rho_t - rho_s) / rho_s'  d/ds D_{s,t}(x_s), x_s moving with the flow

A ' is a derivative in time, and the last two do not depend on how time is counted. For a flow x = (1 - c) eps + c x0,
with times in c, they are l = (1 - t)(u - s) / ((1 - u)(t - s)), (t - s)(1 - t) / (1 - s) and (1 - s)(t - s) / (1 - t).
Boffi, Albergo & Vanden-Eijnden 2025 (arXiv 2505.18825); in the form of a denoiser: FLM (arXiv 2602.16813).

Nothing is divided by the sigma of clean text. Times are schedule times, s > u > t; coefficients are computed in
float64.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.schedules._base import Coefficients, Schedule, Times

State = Float[Tensor, "b *n"]


def joined(
    process: GaussianProcess, first: State, second: State, s: Float[Tensor, " b"], u: Float[Tensor, " b"], t: Times
) -> State:
    """D_{s,t} = l D_{s,u} + (1 - l) D_{u,t}, of two jumps that follow each other.

    Args:
        first: D_{s,u}(x_s).
        second: D_{u,t}(X_{s,u}(x_s)).
    """
    return torch.lerp(second, first, shaped(share(process.noise_schedule, s, u, t), first))


def lagrangian(process: GaussianProcess, arrived: State, slope: State, s: Times, t: Times) -> State:
    """D_{s,t} by how it changes with its end.

    Args:
        arrived: D_{t,t}(X_{s,t}(x_s)).
        slope: d/dt D_{s,t}(x_s).
    """
    schedule = process.noise_schedule
    factor = schedule.sigma(t) * sweep(schedule, s, t) / (schedule.sigma(s) * rate(schedule, t))
    return arrived - shaped(factor, arrived) * slope


def eulerian(process: GaussianProcess, begun: State, slope: State, s: Times, t: Times) -> State:
    """D_{s,t} by how it changes with its beginning, for t above clean text: near it a change counts more and more.

    Args:
        begun: D_{s,s}(x_s).
        slope: d/ds D_{s,t}(x_s), x_s moving with the flow.
    """
    schedule = process.noise_schedule
    factor = schedule.sigma(s) * sweep(schedule, s, t) / (schedule.sigma(t) * rate(schedule, s))
    return begun + shaped(factor, begun) * slope


def corrected(process: GaussianProcess, x0: State, residual: State, s: Times, t: Times) -> State:
    """D_{s,t} = E[x0 | x_s] + sigma_s (alpha_t sigma_s - alpha_s sigma_t) / 2 g: a denoiser and a residual g.

    For a flow with times in c it is E[x0 | x_s] + (t - s)(1 - s) / 2 g, whose map is x + (t - s) v + (t - s)^2 / 2 g,
    the beginning of a series in t - s (FLM, arXiv 2602.16813, first version). On the diagonal g does not matter.
    """
    schedule = process.noise_schedule
    return x0 + shaped(0.5 * schedule.sigma(s) * sweep(schedule, s, t), x0) * residual


def share(schedule: Schedule, s: Times, u: Times, t: Times) -> Coefficients:
    """l = (rho_u - rho_s) / (rho_t - rho_s), which is 0 for t at clean text."""
    return schedule.sigma(t) * sweep(schedule, s, u) / (schedule.sigma(u) * sweep(schedule, s, t))


def sweep(schedule: Schedule, s: Times, t: Times) -> Coefficients:
    """sigma_s sigma_t (rho_t - rho_s) = alpha_t sigma_s - alpha_s sigma_t; t - s for a flow with times in c."""
    return schedule.alpha(t) * schedule.sigma(s) - schedule.alpha(s) * schedule.sigma(t)


def rate(schedule: Schedule, t: Times) -> Coefficients:
    """sigma^2 rho' = alpha' sigma - alpha sigma'; 1 for a flow with times in c."""
    return schedule.d_alpha(t) * schedule.sigma(t) - schedule.alpha(t) * schedule.d_sigma(t)


def shaped(coefficient: Coefficients, like: Tensor) -> Tensor:
    """[b] or [b, l] -> [b, 1, ...] or [b, l, 1, ...] in the type of ``like``."""
    return coefficient.to(like.dtype).reshape(*coefficient.shape, *(1,) * (like.ndim - coefficient.ndim))


def along(function: Callable[..., Any], point: tuple[Tensor, ...], direction: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """A function's value and its derivative in a direction, in forward mode, where fused attention has none."""
    with sdpa_kernel(SDPBackend.MATH):
        value, slope = jvp(function, point, direction)  # pyright: ignore[reportAssignmentType]
    return value, slope
