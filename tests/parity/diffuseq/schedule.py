"""Schedules and posterior coefficients agree with the original's tables in float64."""

import torch
from torch import Tensor

from dlkit.diffusion.processes.gaussian import GaussianProcess
from parity.cases import Case
from parity.every_array import Watched, every_array


def check(case: Case) -> None:
    with every_array(case) as golden:
        tables = [name.removesuffix(".betas") for name in golden if name.endswith(".betas")]
        assert len(tables) == len(case.config["schedules"])
        for table in tables:
            check_table(case, golden, table)


def check_table(case: Case, golden: Watched, table: str) -> None:
    """One table, such as ``sqrt_2000``."""
    name, _, steps = table.rpartition("_")
    process = GaussianProcess(schedule={"name": name, "steps": int(steps)})  # type: ignore[arg-type]
    for quantity, ours in quantities(process, torch.arange(int(steps))).items():
        case.close(ours, golden[f"{table}.{quantity}"], f"{table}.{quantity}")


def quantities(process: GaussianProcess, index: Tensor) -> dict[str, Tensor]:
    """What the original tabulates, at the indices given."""
    schedule = process.noise_schedule
    t, s = schedule.time_of(index), schedule.time_of(index - 1)  # type: ignore[attr-defined]
    after, before = schedule.alpha_bar(t), schedule.alpha_bar(s)
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    on_x0, on_x_t = process.posterior(zero, one, t, s), process.posterior(one, zero, t, s)
    variance, large = on_x0.std.square(), on_x0.std_large.square()
    second = variance[
        (index == 1).nonzero()[0]
    ]  # the original puts it where the first, which is 0, would be in the way
    return {
        "betas": 1.0 - after / before,
        "alphas_cumprod": after,
        "alphas_cumprod_prev": before,
        "posterior_variance": variance,
        "posterior_log_variance_clipped": torch.where(index == 0, second, variance).log(),
        "posterior_mean_coef1": on_x0.mean,
        "posterior_mean_coef2": on_x_t.mean,
        "model_variance": torch.where(index == 0, second, large),
    }
