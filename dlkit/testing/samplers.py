"""What samplers promise."""

from collections.abc import Callable

import torch
from torch import Tensor

from dlkit.errors import UserError
from dlkit.randomness import Stream
from dlkit.samplers._base import Sampler
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal, require_like


def short(part: Sampler, most: int = 4) -> Sampler:
    """With few steps, if it takes as many."""
    for steps in range(most, 0, -1):
        try:
            return part.replace(steps=steps)
        except UserError:
            continue
    return part


def noise(rows: Tensor) -> Callable[[int], Tensor]:
    """Noise that belongs to the samples."""
    return lambda k: Stream(0, "testing/sampler", k).normal(rows, material.LENGTH, material.DIM)


@torch.no_grad()
def sampled(part: Sampler, rows: Tensor, calls: list[float] | None = None) -> Tensor:
    cond = material.permuted(material.condition(), rows.tolist())
    observe = None if calls is None else lambda k, t, x_t, x0: calls.append(t)
    return short(part).sample(material.denoiser(), cond, noise(rows), observe)


@promise()
def gives_states(part: Sampler) -> None:
    """Finite states shaped as the noise, with the anchor at the given positions."""
    x, cond = sampled(part, torch.arange(material.BATCH)), material.condition()
    require_like(x, "the sample", (material.BATCH, material.LENGTH, material.DIM), torch.float32)
    require_equal(x[~cond.mask], material.anchor()[~cond.mask], "a given position is not the anchor's")


@promise()
def tells_its_calls(part: Sampler) -> None:
    """An observer is called for each network call, with times in (0, 1]."""
    calls: list[float] = []
    sampled(part, torch.arange(material.BATCH), calls)
    require(bool(calls), "the observer is never called")
    require(all(0.0 < t <= 1.0 for t in calls), f"times outside (0, 1]: {calls}")


@promise()
def is_a_function_of_each_noise(part: Sampler) -> None:
    """The same noise gives the same sample, alone or in any batch, observed or not."""
    rows = torch.arange(material.BATCH)
    x = sampled(part, rows)
    require_equal(sampled(part, rows), x, "two calls differ; draw noise only from the function you are given")
    require_equal(sampled(part, rows, []), x, "the sample changes when it is observed")
    order = torch.tensor([2, 0, 3, 1])
    require_close(sampled(part, order), x[order], "a sample depends on its batch mates", 1e-3, 1e-4)
    require_close(sampled(part, rows[1:2]), x[1:2], "a sample depends on its batch mates", 1e-3, 1e-4)


@promise(compiles=True)
def compiles(part: Sampler) -> None:
    """The whole way, network calls included, compiles as one graph and ends where it ends otherwise."""
    denoiser, few = material.denoiser(material.Pointwise(material.DIM)), short(part, 2)
    cond, drawn = material.condition(), noise(torch.arange(material.BATCH))
    draws = {k: drawn(k) for k in range(64)}  # before the graph, which only asks

    def way(draws: dict[int, Tensor]) -> Tensor:
        return few.sample(denoiser, cond, lambda k: draws[k])

    with torch.no_grad():
        require_close(compiled(way, "aot_eager")(draws), way(draws), "the compiled sample differs", 1e-5, 1e-6)
