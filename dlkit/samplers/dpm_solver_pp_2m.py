"""DPM-Solver++(2M)."""

from jaxtyping import Float
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.samplers import register
from dlkit.samplers._base import GridSampler, Step


@register(
    "dpm_solver_pp_2m",
    description="deterministic, second order: reads the course of x0 from the last two predictions",
    paper="Lu et al. 2022, DPM-Solver++ (arXiv 2211.01095), algorithm 2",
)
class DpmSolverPp2m(GridSampler):
    """The ODE of ``ddim``, with x0 taken to be linear in lambda = log(alpha / sigma) over a step.

    A DDIM step is exact if x0 is constant over it. With h = lambda_s - lambda_t, the same h' of the step before and
    that step's prediction x0', x0 in the middle of this step is x0 + h / (2 h') (x0 - x0'), and a DDIM step with it is
    of second order. The first step has nothing before it, and the last, to t = 0, has h infinite: both are DDIM's own.

    Neither the mean of the process nor the anchor needs care here: ``process.ddim`` counts states from the mean, and
    the given positions are put back after each step.
    """

    looks_back = True

    def step(self, process: GaussianProcess, now: Step) -> Float[Tensor, "b l d"]:
        x0 = now.x0
        if now.before is not None:
            before, time = now.before
            at_s, at_t, at_before = (process.noise_schedule.log_snr(u) for u in (now.s, now.t, time))
            ahead = (at_s - at_t) / (2.0 * (at_t - at_before))
            x0 = x0 + ahead.to(x0.dtype).reshape(len(x0), -1, 1) * (x0 - before)
        return process.ddim(now.x_t, x0, now.t, now.s)
