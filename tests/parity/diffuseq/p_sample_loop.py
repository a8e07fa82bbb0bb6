"""The full ancestral run, with rounding at all times, at none, and at the early or the late ones only."""

from typing import Any

from dlkit.samplers.ancestral import Ancestral
from parity.cases import Case
from parity.diffuseq_network import network
from parity.diffuseq_sampling import condition, number, rounding_times, schedule_of, states, tokens
from parity.every_array import every_array


def check(case: Case) -> None:
    denoiser, config = network(case), case.config
    schedule = schedule_of(denoiser)
    always = rounding_times(schedule, config["clamp_step"], config["clamp_first"])
    kinds: dict[str, dict[str, Any]] = {"rounded": {"rounding": True, "rounding_times": always}, "plain": {}}
    with every_array(case, "data", "states", "noise") as golden:
        cond = condition(case, denoiser, golden)
        for name in golden:
            if name.endswith(".final_state"):
                text = case.meta["files"]["data.safetensors"][name]["meaning"]
                times = rounding_times(schedule, int(number(text, "clamp_step")), "clamp_first=True" in text)
                kinds[name.removesuffix(".final_state")] = {"rounding": True, "rounding_times": times}
        for kind, settings in kinds.items():
            sampler = Ancestral(steps=schedule.steps, **common(config), **settings)
            _, found = states(sampler, denoiser, cond, golden["x_T"], golden["step_noise"])
            if f"{kind}.states" in golden:
                case.close(found, golden[f"{kind}.states"], f"{kind}.states")
            else:
                case.close(found[-1], golden[f"{kind}.final_state"], f"{kind}.final_state")
            assert tokens(denoiser, found[-1]).equal(golden[f"{kind}.tokens"]), kind


def common(config: dict[str, Any]) -> dict[str, Any]:
    """What holds for all runs of the case."""
    bound = config.get("top_p") or 0
    return {"clip": 1.0 if config.get("clip_denoised") else None, "noise_bound": bound if bound > 0 else None}
