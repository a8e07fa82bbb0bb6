"""One ancestral step from t to t - 1, each row at a time of its own."""

import torch
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.samplers._base import Step
from dlkit.samplers.ancestral import Ancestral
from parity.cases import Case
from parity.diffuseq_network import network
from parity.diffuseq_sampling import condition, number, schedule_of
from parity.every_array import Watched, every_array


@torch.no_grad()
def check(case: Case) -> None:
    denoiser = network(case)
    schedule = schedule_of(denoiser)
    with every_array(case) as golden:
        cond, index = condition(case, denoiser, golden), golden["t"]
        t, s = schedule.time_of(index), schedule.time_of(index - 1)
        case.close(schedule.network_time(t).float(), golden["network_time"], "network_time")
        check_variance(case, denoiser, golden)
        kinds = {
            "plain": (Ancestral(), None, "noise"),
            "anchored": (Ancestral(), cond, "noise"),
            "rounded_anchored": (Ancestral(rounding=True), cond, "noise"),
            "clipped": (Ancestral(clip=1.0), cond, "noise"),
            "top_p": (Ancestral(noise_bound=noise_bound(case)), cond, "top_p.noise"),
        }
        for kind, (sampler, given, noise) in kinds.items():
            x0, mean, sample = step(sampler, denoiser, golden["x_t"], t, s, given, golden[noise])
            for name, ours in (("pred_xstart", x0), ("mean", mean), ("sample", sample)):
                if f"{kind}.{name}" in golden:
                    case.close(ours, golden[f"{kind}.{name}"], f"{kind}.{name}")


def step(
    sampler: Ancestral, denoiser: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, cond: Condition | None, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x0, posterior mean and x_s; a walk takes x0 for the state at s = 0, without a draw."""
    rows = [sampler.clean(denoiser, *each) for each in _rows(x_t, t, cond)]  # rounding looks at one time for all
    x0 = torch.cat(rows)
    mean = denoiser.process.posterior(x_t, x0, t, s).mean
    x_s = sampler.step(denoiser.process, Step(x_t, x0, t, s, lambda _: noise))
    x_s = torch.where((s == 0.0)[:, None, None], x0, x_s)
    return x0, mean, x_s if cond is None else cond.apply(x_s)


def _rows(x_t: Tensor, t: Tensor, cond: Condition | None) -> list[tuple[Tensor, Tensor, Condition | None]]:
    return [
        (x_t[i : i + 1], t[i : i + 1], cond and Condition(cond.anchor[i : i + 1], cond.mask[i : i + 1]))
        for i in range(len(t))
    ]


def check_variance(case: Case, denoiser: Denoiser, golden: Watched) -> None:
    """The variance of the step; at index 0, where nothing is drawn, the original has the posterior's at index 1."""
    process, schedule, index = denoiser.process, schedule_of(denoiser), golden["t"]
    t, s = schedule.time_of(index), schedule.time_of(index - 1)
    at_one, at_zero = (schedule.time_of(torch.full_like(index, i)) for i in (1, 0))
    large, second = process.posterior(t, t, t, s).std_large, process.posterior(t, t, at_one, at_zero).std
    variance = torch.where(index == 0, second, large).square()
    case.close(variance.float(), golden["variance"], "variance")
    case.close(variance.log().float(), golden["log_variance"], "log_variance")


def noise_bound(case: Case) -> float:
    """The original's ``top_p``."""
    return number(case.meta["files"]["data.safetensors"]["top_p.noise"]["meaning"], "top_p")
