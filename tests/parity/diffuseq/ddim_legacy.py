"""The few-step sampler that the published curve was made with."""

from dlkit.samplers.ddim_legacy import DdimLegacy
from parity.cases import Case
from parity.diffuseq_network import network
from parity.diffuseq_sampling import condition, schedule_of, states, tokens
from parity.every_array import every_array


def check(case: Case) -> None:
    denoiser, gap = network(case), case.config["gap"]
    schedule = schedule_of(denoiser)
    assert case.config.get("eta", 0.0) == 0.0, "the published sampler has no eta"
    with every_array(case, "data", "states") as golden:
        cond = condition(case, denoiser, golden)
        for kind in ("rounded", "plain"):
            sampler = DdimLegacy(gap=gap, rounding=kind == "rounded")
            times, found = states(sampler, denoiser, cond, golden["x_T"])
            assert schedule.time_of(golden["indices"]).tolist() == times, "indices"
            case.close(found, golden[f"{kind}.states"], f"{kind}.states")
            assert tokens(denoiser, found[-1]).equal(golden[f"{kind}.tokens"]), kind
