"""Plaid's bound with the original's recorded times and noise: states, first estimate, logits, terms, gradients."""

import torch
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.teachers._base import FitBatch
from dlkit.teachers.plaid import Plaid
from parity.cases import Case
from parity.every_array import Watched, every_array
from parity.plaid_network import at, network, ours, segments


def check(case: Case) -> None:
    denoiser, config = network(case), case.config
    with every_array(case) as golden:
        calls = watched(denoiser)
        terms = family(golden).losses(denoiser, batch_of(case, golden, denoiser))
        check_what_is_seen(case, golden, denoiser, calls)
        rest = config["reconst_bs"]
        case.close(terms["reconst"][:rest], golden["reconst_loss"], "reconst_loss")
        case.close(terms["diffusion"], golden["diffusion_loss"], "diffusion_loss")
        case.close(terms["prior"][-1], golden["prior_loss"], "prior_loss")
        shares = config["reconst_weight"] / config["avg_reconst_bs"], 1.0 / (config["batch"] - config["avg_reconst_bs"])
        prior = terms["prior"].sum() / (config["batch"] - rest)
        loss = terms["reconst"].sum() * shares[0] + terms["diffusion"].sum() * shares[1] + prior
        case.close(loss, golden["out.loss"], "loss")
        informed = golden["selfcond_mask"] / (0.25 if config["mode"] == "train" else 1.0)
        reconst, diffusion = (terms[name] * informed for name in ("reconst", "diffusion"))
        nll = reconst.sum() / config["avg_reconst_bs"] + diffusion.sum() * shares[1] + prior
        case.close(nll, golden["out.nll"], "nll")
        case.close(terms["reconst"].sum() / config["avg_reconst_bs"], golden["out.reconst"], "reconst")
        case.close(terms["prior"][-1], golden["out.prior"], "prior")
        assert int(golden["out.reconst_bs"]) == rest
    if (case.folder / "grads.safetensors").exists():
        loss.backward()
        check_gradients(case, denoiser)


def family(golden: Watched) -> Plaid:
    return Plaid(split=0.5 if "cu_seqlens" in golden else 0.0)


def batch_of(case: Case, golden: Watched, denoiser: Denoiser) -> FitBatch:
    """The batch whose uniforms have the outcomes that the case records."""
    step = case.config["step"]
    uniforms = {"self_condition": 1.0 - golden["selfcond_mask"]}
    if "cu_seqlens" in golden:
        uniforms["split"] = cuts(golden)
    return FitBatch(
        ids=golden["x"],
        mask=torch.ones_like(golden["x"], dtype=torch.bool),
        t=at(denoiser, golden["t"]),
        normal={"eps_t": golden["noise"]}.__getitem__,
        uniform=lambda name, *shape: uniforms[name],
        done=case.config["bias_warmup_steps"] if step is None else step,
    )


def cuts(golden: Watched) -> Tensor:
    """Whether each row is cut, and where, as uniforms; the first pass has the segments of its rows."""
    parts = segments(golden["cu_seqlens"], golden["x"].shape)
    length = parts.shape[1]
    place = (parts == parts[:, :1]).sum(1) % length
    informed = golden["selfcond_mask"].bool()
    first = segments(golden["cu_seqlens_selfcond"], parts[informed].shape)
    assert torch.equal((first == first[:, :1]).sum(1) % length, place[informed])
    return torch.stack(((place == 0).double(), (place + 0.5) / length), dim=1)


def watched(denoiser: Denoiser) -> list[tuple[Tensor, Tensor, Tensor | None, Tensor]]:
    """Input, gamma, estimate and output of each call of the network, as they come."""
    calls: list[tuple[Tensor, Tensor, Tensor | None, Tensor]] = []
    denoiser.backbone.register_forward_hook(
        lambda module, args, kw, out: calls.append((args[0], args[1], kw["self_cond"], out[0])), with_kwargs=True
    )
    return calls


def check_what_is_seen(
    case: Case, golden: Watched, denoiser: Denoiser, calls: list[tuple[Tensor, Tensor, Tensor | None, Tensor]]
) -> None:
    z, gamma, estimate, output = calls[-1]
    assert estimate is not None
    case.close(z, golden["z"], "z")
    case.close(gamma, golden["gamma"], "gamma")
    case.close(estimate, golden["x_selfcond"], "x_selfcond")
    alpha, sigma = (torch.sigmoid(sign * gamma).sqrt().float()[:, None, None] for sign in (-1, 1))
    logits = output + case.config["bias_scale"] * denoiser.space.evidence(z, alpha, sigma)
    case.close(logits, golden["logits"], "logits")
    case.close(denoiser.space.mean(logits), golden["x_reconst"], "x_reconst")
    case.close(denoiser.space.embed(golden["x"]), golden["x_embed"], "x_embed")
    schedule = denoiser.process.noise_schedule
    slope = schedule.d_gamma(at(denoiser, golden["t"])) * (1.0 - schedule.t_min)  # type: ignore[attr-defined]
    noisy = golden["t"] > 0  # at t = 0 the original has no use for it and leaves 0
    case.close(slope * noisy, golden["gamma_prime"], "gamma_prime")
    for name in ("gamma_0", "gamma_1"):
        case.close(getattr(denoiser.schedule, name).double(), golden[f"out.{name}"], name)


def check_gradients(case: Case, denoiser: Denoiser) -> None:
    wanted = ours(case.arrays("grads"))
    assert {name for name, _ in denoiser.named_parameters()} == wanted.keys()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        case.close(parameter.grad, wanted[name], name)
