"""Forward noising and DiffuSeq's sampling loops, with the original's recorded noise."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.kernels.nearest_token import nearest_token
from dlkit.samplers.ancestral import Ancestral
from golden_arrays import arrays, network, tolerance


def test_q_sample_and_posterior() -> None:
    golden, close = arrays("q_sample"), tolerance("q_sample")
    process = GaussianProcess()
    schedule = process.noise_schedule
    t = schedule.time_of(golden["t"])  # type: ignore[attr-defined]
    x0, eps = golden["x_start"], golden["noise"]
    cond = Condition(x0, golden["mask"].bool())
    x_t = process.q_sample(x0, t, eps)
    assert_close(x_t, golden["x_t"], **close)
    assert_close(process.q_sample(x0, t, eps, cond), golden["x_t_masked"], **close)
    assert_close(process.alpha(t, x0) * x0, golden["q_mean"], **close)
    assert_close(schedule.sigma(t).square().float(), golden["q_variance"], **close)
    posterior = process.posterior(x_t, x0, t, (t - 1 / 2000).clamp_min(0.0))
    assert_close(posterior.mean, golden["posterior_mean"], **close)
    assert_close(posterior.std.flatten().square(), golden["posterior_variance"], **close)


@pytest.mark.parametrize("kind", ["rounded", "plain"])
def test_full_ancestral_run(kind: str) -> None:
    golden, close = arrays("p_sample_loop"), tolerance("p_sample_loop")
    states, noise = arrays("p_sample_loop", "states")[f"{kind}.states"], arrays("p_sample_loop", "noise")["step_noise"]
    denoiser = network(steps=20)
    cond = Condition(denoiser.space.embed(golden["input_ids"]), golden["input_mask"].bool())
    assert_close(cond.anchor, golden["x_source"], rtol=0, atol=0)
    inputs: list[Tensor] = []
    sampler = Ancestral(steps=20, rounding=kind == "rounded")
    with torch.no_grad():
        x = sampler.sample(
            denoiser,
            cond,
            lambda k: golden["x_T"] if k == 0 else noise[k - 1],
            lambda k, t, x_t, x0: inputs.append(x_t),
        )
    for ours, theirs in zip([*inputs[1:], x], states, strict=True):
        assert_close(ours, theirs, **close)
    assert torch.equal(denoiser.space.logits(x).argmax(-1), golden[f"{kind}.tokens"])


@pytest.mark.parametrize("kind", ["rounded", "plain", "ddim_plain"])
def test_run_on_a_subset_of_the_steps(kind: str) -> None:
    """The original's respaced process: betas recomputed, the clock of the full one. Ours knows any t -> s by itself."""
    golden, close = arrays("respaced_ddim20"), tolerance("respaced_ddim20")
    states = arrays("respaced_ddim20", "states")[f"{kind}.states"]
    noise = arrays("respaced_ddim20", "noise")["step_noise"]
    denoiser = network()
    process, space = denoiser.process, denoiser.space
    times = process.noise_schedule.time_of(golden["timestep_map"].flip(0))  # type: ignore[attr-defined]
    time = process.noise_schedule.network_time(times)
    assert_close(time.float(), golden["network_time"].flip(0), rtol=1e-6, atol=0)
    cond = Condition(golden["x_source"], golden["input_mask"].bool())
    x = golden["x_T"]
    with torch.no_grad():
        for k, now in enumerate(times):
            t, s = (each.expand(len(x)) for each in (now, times[k + 1] if k + 1 < len(times) else now * 0))
            x0 = denoiser.predict(x, t, cond).x0
            if kind == "rounded":
                x0 = space.embed(nearest_token(x0, space.table))
            if kind == "ddim_plain":
                x = process.ddim(x, x0, t, s)
            else:
                posterior = process.posterior(x, x0, t, s)
                x = posterior.mean + (posterior.std_large * noise[k] if k + 1 < len(times) else 0.0)
            x = cond.apply(x)
            assert_close(x, states[k], **close)
    assert torch.equal(space.logits(x).argmax(-1), golden[f"{kind}.tokens"])
