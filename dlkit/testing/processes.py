"""What processes promise."""

import itertools

import torch
from torch import Tensor

from dlkit.diffusion.parameterization import TARGETS
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal, require_like

PAIRS = tuple(itertools.product(TARGETS, TARGETS))


def inside(part: GaussianProcess) -> GaussianProcess:
    """The process of a denoiser, where it has all that it may need of the space."""
    return material.denoiser(material.Pointwise(material.DIM), part).process


def states() -> tuple[Tensor, Tensor]:
    return material.normal("x0", dtype=torch.float64), material.normal("eps", dtype=torch.float64)


@promise()
def noises_states(part: GaussianProcess) -> None:
    """q_sample keeps shape and type, is a function of what it is given, and lets gradients through to x0."""
    process, t = inside(part), material.times()
    for dtype in (torch.float32, torch.float64):
        x0, eps = (state.to(dtype) for state in states())
        x_t = process.q_sample(x0.requires_grad_(), t, eps)
        require_like(x_t, "q_sample", tuple(x0.shape), dtype)
        require_equal(process.q_sample(x0, t, eps), x_t, "two calls differ; draw no random numbers of your own")
        x_t.sum().backward()
        require(x0.grad is not None and (x0.grad != 0).any(), "no gradient reaches x0")


@promise()
def holds_given_positions(part: GaussianProcess) -> None:
    """With a condition the given positions are the anchor's, and the others as without it."""
    (x0, eps), cond, t = states(), material.condition(torch.float64), material.times()
    process = inside(part)
    held, free = process.q_sample(x0, t, eps, cond), process.q_sample(x0, t, eps)
    require_equal(held[~cond.mask], material.anchor(torch.float64)[~cond.mask], "a given position is not the anchor's")
    require_equal(held[cond.mask], free[cond.mask], "a generated position changes with the condition")


@promise()
def begins_at_clean_states(part: GaussianProcess) -> None:
    """At t = 0 a noised state is the clean one."""
    (x0, eps), t = states(), torch.zeros(material.BATCH, dtype=torch.float64)
    require_close(inside(part).q_sample(x0, t, eps), x0, "q_sample at t = 0 is not x0", 1e-4, 1e-4)


@promise()
def converts_back(part: GaussianProcess) -> None:
    """Every parameterisation of a noised state turns into every other and back, and eps is the noise."""
    (x0, eps), t, process = states(), material.times(), inside(part)
    x_t = process.q_sample(x0, t, eps)
    require_close(process.convert(x0, x_t, t, "x0", "eps"), eps, "eps is not the noise", 1e-6, 1e-6)
    known = {kind: process.convert(x0, x_t, t, "x0", kind) for kind in TARGETS}
    for source, to in PAIRS:
        found, size = process.convert(known[source], x_t, t, source, to), float(known[to].detach().abs().max())
        require_close(found, known[to], f"{source} and x0 turn into another {to}", 1e-6, 1e-6 * size)


@promise()
def has_velocities(part: GaussianProcess) -> None:
    """A velocity is the derivative of q_sample by t, and v is alpha eps - sigma x0, counted from the process's mean."""
    (x0, eps), process, h = states(), inside(part), 1e-6
    t = material.times() * 0.97 + 0.00137  # between the points of the usual grids, where a schedule may have corners
    x_t = process.q_sample(x0, t, eps)
    slope = (process.q_sample(x0, t + h, eps) - process.q_sample(x0, t - h, eps)) / (2 * h)
    found, size = process.convert(x0, x_t, t, "x0", "velocity"), float(slope.detach().abs().max())
    require_close(found, slope, "velocity is not the slope of q_sample", 1e-4, 1e-4 * size)
    from_mean = x0 if process.mean is None else x0 - process.mean
    v = process.alpha(t, x0) * eps - process.sigma(t, x0) * from_mean
    require_close(process.convert(x0, x_t, t, "x0", "v"), v, "v is not alpha eps - sigma x0", 1e-6, 1e-6)


@promise()
def converts_at_both_ends(part: GaussianProcess) -> None:
    """At t = 0 and t = 1, where alpha or sigma may vanish, conversions are finite: what is lost counts as 0."""
    (x0, eps), process = states(), inside(part)
    for time in (0.0, 1.0):
        t = torch.full((material.BATCH,), time, dtype=torch.float64)
        x_t = process.q_sample(x0, t, eps)
        for source, to in PAIRS:
            found = process.convert(x0, x_t, t, source, to)
            require_like(found, f"{source} as {to} at t = {time:g}", tuple(x0.shape), torch.float64)


@promise()
def has_posteriors(part: GaussianProcess) -> None:
    """The posterior of a state on the mean path lies on the mean path, and its deviations are not negative."""
    (x0, _), t, process = states(), material.times(), inside(part)
    nothing, s = torch.zeros_like(x0), material.times() / 2
    posterior = process.posterior(process.q_sample(x0, t, nothing), x0, t, s)
    require_close(posterior.mean, process.q_sample(x0, s, nothing), "its mean leaves the mean path", 1e-6, 1e-6)
    require((posterior.std >= 0).all() and (posterior.std_large >= 0).all(), "a standard deviation is negative")


@promise(compiles=True)
def compiles(part: GaussianProcess) -> None:
    """Compiled as one graph it noises, converts and steps as it does otherwise."""
    process = inside(part)

    def everything(x0: Tensor, eps: Tensor, t: Tensor) -> dict[str, Tensor]:
        x_t = process.q_sample(x0, t, eps)
        posterior = process.posterior(x_t, x0, t, t / 2)
        return {
            **{"q_sample": x_t, "prior": process.prior(eps), "ddim": process.ddim(x_t, x0, t, t / 2)},
            **{"posterior's mean": posterior.mean, "posterior's std": posterior.std},
            **{"network_input": process.network_input(x_t, t)},
            **{f"{kind} as {to}": process.convert(x0, x_t, t, kind, to) for kind, to in PAIRS},
        }

    (x0, eps), t = states(), material.times()
    graph = compiled(everything, "aot_eager")(x0, eps, t)
    for name, value in everything(x0, eps, t).items():
        require_close(graph[name], value, f"compiled {name} differs", 1e-9, 1e-12)
