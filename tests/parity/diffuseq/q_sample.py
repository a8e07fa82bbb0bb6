"""Forward noising with the recorded noise, and the posterior of the step before."""

import torch

from dlkit.diffusion.condition import Condition
from parity.cases import Case
from parity.diffuseq_network import network
from parity.diffuseq_sampling import schedule_of
from parity.every_array import every_array


def check(case: Case) -> None:
    denoiser = network(case)
    process, schedule = denoiser.process, schedule_of(denoiser)
    with every_array(case) as golden:
        x0, eps, index = golden["x_start"], golden["noise"], golden["t"]
        t, s = schedule.time_of(index), schedule.time_of(index - 1)
        x_t = process.q_sample(x0, t, eps)
        case.close(x_t, golden["x_t"], "x_t")
        cond = Condition(x0, golden["mask"].bool())
        case.close(process.q_sample(x0, t, eps, cond), golden["x_t_masked"], "x_t_masked")
        case.close(process.q_sample(x0, t, torch.zeros_like(eps)), golden["q_mean"], "q_mean")
        case.close(process.sigma(t, t).square().float(), golden["q_variance"], "q_variance")
        posterior = process.posterior(x_t, x0, t, s)
        case.close(posterior.mean, golden["posterior_mean"], "posterior_mean")
        variance = posterior.std.flatten().square()
        case.close(variance, golden["posterior_variance"], "posterior_variance")
        at_one, at_zero = (schedule.time_of(torch.full_like(index, i)) for i in (1, 0))
        second = process.posterior(x_t, x0, at_one, at_zero).std.flatten().square()
        clipped = torch.where(index == 0, second, variance).log()
        case.close(clipped, golden["posterior_log_variance_clipped"], "posterior_log_variance_clipped")
