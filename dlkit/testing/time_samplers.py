"""What time samplers promise."""

import torch

from dlkit.diffusion.time_samplers._base import TimeSampler
from dlkit.schedules._base import Schedule
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal, require_like


def schedule() -> Schedule:
    return material.process().noise_schedule


@promise()
def gives_times_of_the_schedule(part: TimeSampler) -> None:
    """One float64 time for each uniform, from t_min to 1."""
    t = part.sample(torch.linspace(0.001, 0.999, 256, dtype=torch.float64), schedule())
    require_like(t, "sample(u, schedule)", (256,), torch.float64)
    low = schedule().t_min
    require((t >= low - 1e-9).all() and (t <= 1.0 + 1e-9).all(), f"it leaves [{low}, 1]: {t.min()} to {t.max()}")


@promise()
def is_a_function_of_each_uniform(part: TimeSampler) -> None:
    """The same uniforms give the same times, which do not depend on batch mates, unless they are said to."""
    u = torch.linspace(0.999, 0.001, 64, dtype=torch.float64)
    t = part.sample(u, schedule())
    require_equal(part.sample(u, schedule()), t, "two calls differ; draw no random numbers of your own")
    if part.joint:
        return
    require_equal(part.sample(u.flip(0), schedule()).flip(0), t, "a time depends on the order of the batch")
    require_equal(part.sample(u[:1], schedule()), t[:1], "a time depends on the batch")


@promise(compiles=True)
def compiles(part: TimeSampler) -> None:
    """Compiled as one graph a run draws the times, and the weights of their losses, that it draws otherwise."""
    u, state = torch.linspace(0.001, 0.999, 64, dtype=torch.float64), part.start(schedule())
    for one, other, what in zip(compiled(state.draw, "aot_eager")(u), state.draw(u), ("times", "weights"), strict=True):
        require_close(one, other, f"compiled {what} differ", 1e-12, 1e-12)
