"""What schedules promise."""

import itertools
from typing import Any

import torch
from torch import Tensor

from dlkit.diffusion.processes import registry as processes
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.generator import load_teacher
from dlkit.part import from_spec
from dlkit.schedules._base import Schedule
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal, require_like

METHODS = ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma", "d_log_snr", "network_time")


def shaped(part: Schedule, values: Tensor) -> Tensor:
    """Values that belong to times, beside coefficients: the same for every position, where the schedule knows them."""
    return values if part.positions is None else values[..., None].expand(*values.shape, part.positions)


def inner_times() -> Tensor:
    """Times away from both ends, and between the points of the usual grids, where a schedule may have corners."""
    return 0.00137 + 0.05 * torch.arange(1, 19, dtype=torch.float64)


@promise()
def is_float64_of_the_same_shape(part: Schedule) -> None:
    """alpha, sigma, log SNR, their derivatives and the network's time are float64, finite and shaped as the times."""
    for shape in ((), (6,), (2, 3)):
        t = inner_times()[:6].reshape(-1)[: max(1, torch.Size(shape).numel())].reshape(shape)
        wide = tuple(shaped(part, t).shape)
        for name in METHODS:
            wanted = shape if name == "network_time" else wide
            require_like(getattr(part, name)(t), f"{name}(t)", wanted, torch.float64)
        require_like(part.inverse(part.log_snr(t)), "inverse(log_snr(t))", wide, torch.float64)


@promise()
def is_clean_at_0_and_finite(part: Schedule) -> None:
    """At t = 0 alpha is 1 and sigma 0; both are finite on all of [0, 1], and never negative."""
    require(0.0 < part.t_min < 1.0, f"t_min is {part.t_min}, not between 0 and 1")
    t = torch.tensor([0.0, part.t_min, 1.0 - 1e-6, 1.0], dtype=torch.float64)
    for name, clean in (("alpha", 1.0), ("sigma", 0.0)):
        values = getattr(part, name)(t)
        wanted = tuple(shaped(part, t).shape)
        require_like(values, f"{name} at t = 0, t_min, just below 1 and 1", wanted, torch.float64)
        require((values >= 0).all(), f"{name} is negative: {values.tolist()}")
        require_close(values[0], torch.full_like(values[0], clean), f"{name} at t = 0 is not {clean:g}", 0.0, 1e-6)


@promise()
def gets_noisier(part: Schedule) -> None:
    """alpha never rises, sigma never falls, and log SNR falls everywhere between t_min and 1."""
    t = torch.linspace(part.t_min, 0.999, 201, dtype=torch.float64)
    require((part.alpha(t).diff(dim=0) <= 1e-12).all(), "alpha rises somewhere")
    require((part.sigma(t).diff(dim=0) >= -1e-12).all(), "sigma falls somewhere")
    require((part.log_snr(t).diff(dim=0) < 0).all(), "log SNR does not fall everywhere")
    steps = part.network_time(t).diff()
    require((steps > 0).all() or (steps < 0).all(), "network_time is not strictly monotone")


@promise()
def agrees_with_itself(part: Schedule) -> None:
    """log SNR is log(alpha^2 / sigma^2), and inverse takes it back to t."""
    t = inner_times()
    ratio = 2.0 * (part.alpha(t).log() - part.sigma(t).log())
    require_close(part.log_snr(t), ratio, "log_snr is not log(alpha^2 / sigma^2)", rtol=1e-7, atol=1e-7)
    back = part.inverse(part.log_snr(t))
    require_close(back, shaped(part, t), "inverse(log_snr(t)) is not t", rtol=0.0, atol=1e-8)


@promise()
def has_its_derivatives(part: Schedule) -> None:
    """d_alpha, d_sigma and d_log_snr are the derivatives of alpha, sigma and log_snr, as autograd finds them."""
    for name in ("alpha", "sigma", "log_snr"):
        t = inner_times().requires_grad_()
        values = getattr(part, name)(t) + 0.0 * shaped(part, t)  # a constant does not depend on t
        slopes = getattr(part, f"d_{name}")(t)
        for value, slope in zip(values.reshape(len(t), -1).T, slopes.reshape(len(t), -1).T, strict=True):
            (wanted,) = torch.autograd.grad(value.sum(), t, retain_graph=True)
            require_close(slope.detach(), wanted, f"d_{name} is not the slope of {name}", 1e-8, 1e-12)


@promise()
def has_grids(part: Schedule) -> None:
    """grid(n) and even(n) have n times falling from 1, at last to t_min, and grid(n) is part of grid(2n)."""
    for name, n in itertools.product(("grid", "even"), (1, 2, 5)):
        times = getattr(part, name)(n)
        require(len(times) == n, f"{name}({n}) has {len(times)} times")
        require(times[0] == 1.0, f"{name}({n}) starts at {times[0]}, not at 1")
        require(all(first > second for first, second in itertools.pairwise(times)), f"{name}({n}) does not fall")
        if n > 1:
            require(abs(times[-1] - part.t_min) < 1e-9, f"{name}({n}) ends at {times[-1]}, not at t_min = {part.t_min}")
    for n in (1, 2, 5):
        require(set(part.grid(n)) <= set(part.grid(2 * n)), f"grid({n}) has times that grid({2 * n}) lacks")


@promise()
def spreads_uniforms(part: Schedule) -> None:
    """between(u, low, high) rises with u and stays between the two times."""
    u = torch.linspace(0.001, 0.999, 101, dtype=torch.float64)
    low, high = part.even(5)[3], part.even(5)[1]
    t = part.between(u, low, high)
    require_like(t, "between(u, low, high)", (101,), torch.float64)
    require((t >= low - 1e-9).all() and (t <= high + 1e-9).all(), f"it leaves [{low}, {high}]: {t.min()} to {t.max()}")
    require((t.diff() >= 0).all(), "it does not rise with u")
    require(t[-1] > t[0], "it gives one time only")


@promise()
def noises_states(part: Schedule) -> None:
    """The Gaussian process noises float32 states with it, and x0 and eps of a noisy state agree."""
    process = GaussianProcess.model_validate({"schedule": part})
    t = inner_times()[[1, 6, 11, 16]].clamp(min=part.t_min)
    shape = (part.positions or material.LENGTH, material.DIM)
    x0, eps = material.normal("x0", *shape), material.normal("eps", *shape)
    x_t = process.q_sample(x0, t, eps)
    require_like(x_t, "q_sample", tuple(x0.shape), torch.float32)
    again = process.convert(x0, x_t, t, "x0", "eps")
    require_close(again, eps, "eps comes back changed", 1e-3, 1e-3)
    require_equal(x_t, process.q_sample(x0, t, eps), "two calls differ")


@promise()
def never_waits(part: Schedule) -> None:
    """It looks at no value: tensors without values, for which that is an error, go through it all."""
    t = torch.empty(3, dtype=torch.float64, device="meta")
    found = {name: getattr(part, name)(t) for name in METHODS}
    found["inverse"], found["between"] = part.inverse(found["log_snr"]), part.between(t, 0.25, 0.75)
    for name, value in found.items():
        require(value.is_meta, f"{name} leaves the device of its argument for {value.device}")


@promise(slow=True)
def is_of_a_teacher(part: Schedule) -> None:
    """`dlkit train` fits a teacher under it, and the folder that this leaves writes texts, with any sampler."""
    process, length = {"name": "gaussian", "schedule": part.spec()}, part.positions or 24
    model = load_teacher(material.fitted(model={"process": process, "seq_len": length}))
    require(model.architecture.process == from_spec(processes, process), "the folder holds other settings")
    sampler: dict[str, Any]
    for sampler in ({"name": "ddim"}, {"name": "ancestral", "variance": "small"}, {"name": "dpm_solver_pp_2m"}):
        texts = model.generate(list(material.SOURCES), sampler=sampler, steps=4)
        alone = model.generate(list(material.SOURCES), sampler=sampler, steps=4, batch_size=1)
        require(texts == alone, f"texts of {sampler['name']} depend on batch mates")


@promise(compiles=True)
def compiles(part: Schedule) -> None:
    """Compiled as one graph it gives what it gives otherwise."""

    def everything(t: Tensor) -> list[Any]:
        values = [getattr(part, name)(t) for name in METHODS]
        return [*values, part.inverse(part.log_snr(t))]

    t = inner_times()
    for name, one, other in zip(
        (*METHODS, "inverse"), compiled(everything, "aot_eager")(t), everything(t), strict=True
    ):
        require_close(one, other, f"compiled {name} differs", 1e-9, 1e-9)
