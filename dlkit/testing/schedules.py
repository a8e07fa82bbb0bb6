"""What schedules promise."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.schedules._base import Schedule
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal, require_like

METHODS = ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma", "network_time")


def inner_times() -> Tensor:
    """Times away from both ends, and between the points of the usual grids, where a schedule may have corners."""
    return 0.00137 + 0.05 * torch.arange(1, 19, dtype=torch.float64)


@promise()
def is_float64_of_the_same_shape(part: Schedule) -> None:
    """alpha, sigma, log SNR, their derivatives and the network's time are float64, finite and shaped as the times."""
    for shape in ((), (6,), (2, 3)):
        t = inner_times()[:6].reshape(-1)[: max(1, torch.Size(shape).numel())].reshape(shape)
        for name in METHODS:
            require_like(getattr(part, name)(t), f"{name}(t)", shape, torch.float64)
        require_like(part.inverse(part.log_snr(t)), "inverse(log_snr(t))", shape, torch.float64)


@promise()
def is_finite_at_both_ends(part: Schedule) -> None:
    """alpha and sigma are finite on all of [0, 1], and no coefficient is negative."""
    t = torch.cat((torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([part.t_min, 1.0 - 1e-6]).double()))
    for name in ("alpha", "sigma"):
        values = getattr(part, name)(t)
        require_like(values, f"{name} at t = 0, 1, t_min and just below 1", (4,), torch.float64)
        require((values >= 0).all(), f"{name} is negative: {values.tolist()}")
    require(0.0 < part.t_min < 1.0, f"t_min is {part.t_min}, not between 0 and 1")


@promise()
def gets_noisier(part: Schedule) -> None:
    """alpha never rises, sigma never falls, and log SNR falls everywhere between t_min and 1."""
    t = torch.linspace(part.t_min, 0.999, 201, dtype=torch.float64)
    require((part.alpha(t).diff() <= 1e-12).all(), "alpha rises somewhere")
    require((part.sigma(t).diff() >= -1e-12).all(), "sigma falls somewhere")
    require((part.log_snr(t).diff() < 0).all(), "log SNR does not fall everywhere")
    steps = part.network_time(t).diff()
    require((steps > 0).all() or (steps < 0).all(), "network_time is not strictly monotone")


@promise()
def agrees_with_itself(part: Schedule) -> None:
    """log SNR is log(alpha^2 / sigma^2), and inverse takes it back to t."""
    t = inner_times()
    ratio = 2.0 * (part.alpha(t).log() - part.sigma(t).log())
    require_close(part.log_snr(t), ratio, "log_snr is not log(alpha^2 / sigma^2)", rtol=1e-7, atol=1e-7)
    require_close(part.inverse(part.log_snr(t)), t, "inverse(log_snr(t)) is not t", rtol=0.0, atol=1e-6)


@promise()
def has_its_derivatives(part: Schedule) -> None:
    """d_alpha and d_sigma are the derivatives of alpha and sigma."""
    t, h = inner_times(), 1e-6
    for name in ("alpha", "sigma"):
        value = getattr(part, name)
        slope = (value(t + h) - value(t - h)) / (2 * h)
        require_close(getattr(part, f"d_{name}")(t), slope, f"d_{name} is not the slope of {name}", 1e-4, 1e-6)


@promise()
def has_grids(part: Schedule) -> None:
    """grid(n) has n falling times in (0, 1], and from two on the last is t_min."""
    for n in (1, 2, 5):
        grid = part.grid(n)
        require(len(grid) == n, f"grid({n}) has {len(grid)} times")
        require(all(0.0 < t <= 1.0 for t in grid), f"grid({n}) leaves (0, 1]: {grid}")
        require(all(first > second for first, second in pairwise(grid)), f"grid({n}) does not fall")
        if n > 1:
            require(abs(grid[-1] - part.t_min) < 1e-9, f"grid({n}) ends at {grid[-1]}, not at t_min = {part.t_min}")


@promise()
def spreads_uniforms(part: Schedule) -> None:
    """between(u, low, high) rises with u and stays between the two times."""
    u = torch.linspace(0.001, 0.999, 101, dtype=torch.float64)
    low, high = part.grid(5)[3], part.grid(5)[1]
    t = part.between(u, low, high)
    require_like(t, "between(u, low, high)", (101,), torch.float64)
    require((t >= low - 1e-9).all() and (t <= high + 1e-9).all(), f"it leaves [{low}, {high}]: {t.min()} to {t.max()}")
    require((t.diff() >= 0).all(), "it does not rise with u")
    require(t[-1] > t[0], "it gives one time only")


@promise()
def noises_states(part: Schedule) -> None:
    """The Gaussian process noises float32 states with it, and x0 and eps of a noisy state agree."""
    process = GaussianProcess.model_validate({"schedule": part})
    x0, eps, t = material.normal("x0"), material.normal("eps"), inner_times()[[1, 6, 11, 16]]
    x_t = process.q_sample(x0, t, eps)
    require_like(x_t, "q_sample", tuple(x0.shape), torch.float32)
    again = process.convert(x0, x_t, t, "x0", "eps")
    require_close(again, eps, "eps comes back changed", 1e-3, 1e-3)
    require_equal(x_t, process.q_sample(x0, t, eps), "two calls differ")


@promise(compiles=True)
def compiles(part: Schedule) -> None:
    """Compiled as one graph it gives what it gives otherwise."""

    def everything(t: Tensor) -> list[Any]:
        values = [getattr(part, name)(t) for name in METHODS]
        return [*values, part.inverse(part.log_snr(t))]

    t = inner_times()
    for name, one, other in zip((*METHODS, "inverse"), compiled(everything)(t), everything(t), strict=True):
        require_close(one, other, f"compiled {name} differs", 1e-9, 1e-9)
