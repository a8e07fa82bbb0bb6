"""FLM's network and its students of two times: logits of states and of tokens, and what the blocks are told of time."""

import torch
from torch.testing import assert_close

from dlkit.backbones.diffuseq import sinusoid
from parity.cases import Case
from parity.every_array import every_array
from parity.flm_network import denoiser, network, times


@torch.no_grad()
def check(case: Case) -> None:
    with every_array(case) as golden:
        x, tau, end = golden["x"], golden["tau"], golden["tau_end"]
        flm, first, second = (network(case, name) for name in ("flm", "flm_distill", "flm_distill_double"))
        ours = {
            "flm.logits": flm(x, tau)[0],
            "flm.log_probs": flm(x, tau)[0].log_softmax(-1),
            "flm.logits_of_ids": flm(golden["ids"], tau)[0],
            "flm.time_embedding": flm.embedded(tau),
            "flm.time_features": sinusoid(tau, golden["flm.time_features"].shape[1]),
            "distill.output": first(x, tau, end=end)[0],
            "distill.time_embedding_sum": first.embedded(tau, end),
            "distill.loss_weight": first.learnable_loss_weighting(tau),
            "distill_double.logits": second(x, tau, end=end)[0],
            "distill_double.log_probs": second(x, tau, end=end)[0].log_softmax(-1),
        }
        for name, value in ours.items():
            case.close(value, golden[name], name)
        in_half_precision(case, golden["flm.logits_bf16"], x, tau)
        through_the_denoiser(case, golden)


def in_half_precision(case: Case, wanted: torch.Tensor, x: torch.Tensor, tau: torch.Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(case)(x, tau)[0]
    assert_close(logits.float(), wanted, rtol=0.0, atol=case.meta["tolerance"]["bf16_atol"])


def through_the_denoiser(case: Case, golden: dict[str, torch.Tensor]) -> None:
    """The same from dlkit's times, whose level is that which the states were made with."""
    flow, student, t = denoiser(case), denoiser(case, "flm_distill_double"), times(golden["tau"])
    case.close(flow.process.noise_schedule.alpha(t).float(), golden["c"], "c")
    found = flow.predict(golden["x"], t, None, want=frozenset({"x0", "logits"}))
    assert found.logits is not None
    case.close(found.logits, golden["flm.logits"], "flm.logits")
    case.close(found.x0, golden["flm.log_probs"].exp(), "x0")
    found = student.predict(golden["x"], t, None, end=times(golden["tau_end"]))
    case.close(found.x0, golden["distill_double.log_probs"].exp(), "x0 of two times")
