"""Sampling on a part of the original's steps: betas computed anew, the network on the clock of the full process."""

import torch

from dlkit.samplers._base import GridSampler
from dlkit.samplers.ancestral import Ancestral
from dlkit.samplers.ddim import Ddim
from dlkit.schedules._respacing import space_timesteps
from parity.cases import Case
from parity.diffuseq_network import network
from parity.diffuseq_sampling import condition, schedule_of, states, tokens
from parity.every_array import Watched, every_array


def check(case: Case) -> None:
    denoiser, grid = network(case), str(case.config["timestep_respacing"])
    schedule = schedule_of(denoiser)
    kinds: dict[str, GridSampler] = {
        "rounded": Ancestral(grid=grid, rounding=True),
        "plain": Ancestral(grid=grid),
        "ddim_plain": Ddim(grid=grid),
    }
    with every_array(case, "data", "states", "noise") as golden:
        check_process(case, golden, grid)
        cond = condition(case, denoiser, golden)
        for kind, sampler in kinds.items():
            times, found = states(sampler, denoiser, cond, golden["x_T"], golden["step_noise"])
            assert schedule.time_of(golden["timestep_map"].flip(0)).tolist() == times
            case.close(found, golden[f"{kind}.states"], f"{kind}.states")
            assert tokens(denoiser, found[-1]).equal(golden[f"{kind}.tokens"]), kind


def check_process(case: Case, golden: Watched, grid: str) -> None:
    """The steps that are kept and the posterior between neighbours, in float64."""
    denoiser = network(case)
    process, schedule = denoiser.process, schedule_of(denoiser)
    kept = torch.tensor(space_timesteps(schedule.steps, grid))
    assert kept.equal(golden["timestep_map"])
    t = schedule.time_of(kept)
    s = torch.cat((torch.zeros(1).double(), t[:-1]))
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    case.close(schedule.network_time(t).float(), golden["network_time"], "network_time")
    case.close(schedule.alpha_bar(t), golden["alphas_cumprod"], "alphas_cumprod")
    case.close(1.0 - schedule.alpha_bar(t) / schedule.alpha_bar(s), golden["betas"], "betas")
    case.close(process.posterior(zero, one, t, s).mean, golden["posterior_mean_coef1"], "posterior_mean_coef1")
    case.close(process.posterior(one, zero, t, s).mean, golden["posterior_mean_coef2"], "posterior_mean_coef2")
