"""Logits and x0 of the network: with and without self-conditioning, with less of the state's likelihood, packed."""

import torch
from torch import Tensor

from dlkit.denoiser import Denoiser
from parity.cases import Case
from parity.every_array import every_array
from parity.plaid_network import network, segments


def check(case: Case) -> None:
    denoiser = network(case)
    with every_array(case) as golden, torch.no_grad():
        z, gamma, given = golden["z"], golden["gamma"], golden["x_selfcond"]
        parts = segments(golden["packed.cu_seqlens"], z.shape[:2])
        calls = {
            "nosc": predicted(denoiser, z, gamma),
            "sc": predicted(denoiser, z, gamma, self_cond=given),
            "sc_bias0.3": predicted(denoiser, z, gamma, 0.3, self_cond=given),
            "sc_gamma64": predicted(denoiser, z, gamma.double(), self_cond=given),
            "sc_mask0": predicted(denoiser, z, gamma, self_cond=given),
            "packed": predicted(denoiser, z, gamma, self_cond=given, segments=parts),
        }
        for name, (logits, x0) in calls.items():
            case.close(logits, golden[f"{name}.logits"], f"{name}.logits")
            case.close(x0, golden[f"{name}.x_reconst"], f"{name}.x_reconst")
        reach(denoiser, gamma)
        t = denoiser.process.noise_schedule.inverse(-gamma.double())
        found = denoiser.predict(z, t, None, self_cond=given, want={"x0", "logits"})
        case.close(found.x0, golden["sc.x_reconst"], "the denoiser's x0")
        assert found.logits is not None
        case.close(found.logits, golden["sc.logits"], "the denoiser's logits")


def reach(denoiser: Denoiser, gamma: Tensor) -> None:
    """Bounds that hold every gamma of the case, so that each is that of a time."""
    ends: dict[str, Tensor] = {name: getattr(denoiser.schedule, name) for name in ("gamma_0", "gamma_1")}
    ends["gamma_0"].copy_(torch.minimum(ends["gamma_0"], gamma.min()))
    ends["gamma_1"].copy_(torch.maximum(ends["gamma_1"], gamma.max()))


def predicted(
    denoiser: Denoiser, z: Tensor, gamma: Tensor, evidence: float = 1.0, **more: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits and x0 at a given gamma, with what only the network takes."""
    alpha, sigma = (torch.sigmoid(sign * gamma.double()).sqrt().float()[:, None, None] for sign in (-1, 1))
    output, _ = denoiser.backbone(z, gamma, None, **more)
    logits = output + evidence * denoiser.space.evidence(z, alpha, sigma)
    return logits, denoiser.space.mean(logits)
