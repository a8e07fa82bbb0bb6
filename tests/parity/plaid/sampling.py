"""Plaid's sampler step by step on its own grid: states, x0 as used and as fed back, times, last logits and tokens."""

from typing import Any

import torch
from torch import Tensor

from dlkit.diffusion.condition import Condition
from dlkit.samplers.plaid import PlaidSampler
from parity.cases import Case
from parity.every_array import every_array
from parity.plaid_network import at, network


def check(case: Case) -> None:
    denoiser, sampler = network(case), of(case.config)
    schedule = denoiser.process.noise_schedule
    fed: list[Tensor | None] = []
    denoiser.backbone.register_forward_pre_hook(lambda m, args, kw: fed.append(kw.get("self_cond")), with_kwargs=True)
    logits: list[Tensor] = []
    denoiser.register_forward_hook(lambda m, args, out: logits.append(out.logits))
    with every_array(case) as golden:
        start = golden["z_init"] / sampler.initial_noise_scale
        steps = golden["step_noise"] if sampler.method == "ancestral" else []
        seen: list[tuple[float, Tensor, Tensor]] = []
        cond = Condition(None, torch.ones(start.shape[:2], dtype=torch.bool))
        with torch.inference_mode():
            x = sampler.sample(
                denoiser,
                cond,
                lambda k: steps[k - 1] if k else start,
                lambda k, t, x_t, x0: seen.append((t, x_t, x0)),
            )
        path = seen[:-1]
        t, s = golden["t"], golden["s"]
        case.close(torch.tensor([now for now, _, _ in path]).double(), at(denoiser, t), "t")
        inside = s[:-1]  # the last step, at t = 0, leaves the state where it is
        taken = torch.tensor([to for _, to in sampler.path(schedule)]).double()[:-1]
        case.close(taken, at(denoiser, inside), "s")
        case.close(schedule.gamma(at(denoiser, t)), golden["gamma_t"], "gamma_t")  # type: ignore[attr-defined]
        case.close(schedule.gamma(at(denoiser, inside)), golden["gamma_s"][:-1], "gamma_s")  # type: ignore[attr-defined]
        # these carry the digits of a float32 network, so they are held to its tolerance
        case.close(torch.stack([x_t for _, x_t, _ in seen[1:]]).float(), golden["states"].float(), "states")
        case.close(torch.stack([x0 for _, _, x0 in path]).float(), golden["x_reconst"].float(), "x_reconst")
        raw = [each for each in fed if each is not None]
        case.close(torch.stack(raw), golden["x_selfcond"], "x_selfcond")
        # At gamma(0) a logit adds large terms of both signs, whose rounding is that of the largest. Where the second
        # computation of the recording was off by more than its tolerance, nobody can be held to that.
        is_coarse = case.meta["self_check"]["result"]["final_logits"] > case.meta["tolerance"]["atol"]
        case.close(logits[-1], golden["final_logits"], "final_logits", of_largest=is_coarse)
        assert torch.equal(denoiser.space.logits(x).argmax(-1), golden["tokens"])


def of(config: dict[str, Any]) -> PlaidSampler:
    """The sampler that a case was made with."""
    return PlaidSampler(
        steps=config["sampling_timesteps"],
        grid="official",
        score_temperature=config["score_temp"],
        method="ddim" if config["ddim_sampler"] else "ancestral",
        initial_noise_scale=config["initial_noise_scale"],
        guidance=tuple(config["guidance"]),
    )
