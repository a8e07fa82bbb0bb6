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
        batch = batch_of(case, golden, denoiser)
        terms = family(case, golden).losses(denoiser, batch)
        check_what_is_seen(case, golden, denoiser, calls)
        rest = config["reconst_bs"]
        case.close(terms["reconst"][:rest], golden["reconst_loss"], "reconst_loss")
        case.close(terms["diffusion"], golden["diffusion_loss"], "diffusion_loss")
        reconst, diffusion, prior = ((batch.weight * terms[name]).mean() for name in ("reconst", "diffusion", "prior"))
        case.close(prior, golden["prior_loss"], "prior_loss")
        loss = config["reconst_weight"] * reconst + diffusion + prior
        case.close(loss, golden["out.loss"], "loss")
        seen = batch.weight * (terms["reconst"] + terms["diffusion"]) * counted(case, golden)
        case.close(seen.mean() + prior, golden["out.nll"], "nll")
        case.close(reconst, golden["out.reconst"], "reconst")
        case.close(prior, golden["out.prior"], "prior")
        assert int(golden["out.reconst_bs"]) == rest
        if (case.folder / "grads.safetensors").exists():
            loss.backward()
            check_gradients(case, denoiser)
            check_the_cut_of_the_prior(case, golden["selfcond_mask"].mean(), denoiser)


def family(case: Case, golden: Watched) -> Plaid:
    """The family with the settings of the case."""
    return Plaid(
        self_condition=informed_share(case),
        bias_warmup=case.config["bias_warmup_steps"],
        split=0.5 if "cu_seqlens" in golden else 0.0,
    )


def informed_share(case: Case) -> float:
    """Of the rows: a quarter in training, all in evaluation, none where the case goes without estimates."""
    if not case.config["selfcond"]:
        return 0.0
    return 0.25 if case.config["mode"] == "train" else 1.0


def counted(case: Case, golden: Watched) -> Tensor:
    """What each row counts for in the likelihood: the informed ones stand for all, if there are any."""
    mask, share = golden["selfcond_mask"], informed_share(case)
    return mask / share if share else torch.ones_like(mask)


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
        weight=weights(case, golden["t"]),
    )


def weights(case: Case, u: Tensor) -> Tensor:
    """Those of the two kinds of rows, as the case's averages have them."""
    size, rest = case.config["batch"], case.config["avg_reconst_bs"]
    return torch.where(u > 0, size / (size - rest), size / rest)


def cuts(golden: Watched) -> Tensor:
    """Whether each row is cut, and where, as uniforms; the first pass has the segments of its rows."""
    parts = segments(golden["cu_seqlens"], golden["x"].shape)
    length = parts.shape[1]
    place = (parts == parts[:, :1]).sum(1) % length
    informed = golden["selfcond_mask"].bool()
    if "cu_seqlens_selfcond" in golden:
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
        case.close(parameter.grad, wanted[name], name, of_largest=True)


def check_the_cut_of_the_prior(case: Case, informed: Tensor, denoiser: Denoiser) -> None:
    """The prior's part in the gradient of gamma_1 is too small for the tolerance of the case.

    It is -alpha_1^2 (sigma_1^2 + d alpha_1^2) / 2 for each row, and the informed rows' is cut: what is found must be
    nearer to the recorded gradient than half of what they would add (or a float32 sum's digits allow).
    """
    gamma_1: Tensor = denoiser.schedule.gamma_1  # type: ignore[union-attr, assignment]
    assert gamma_1.grad is not None
    wanted = ours(case.arrays("grads"))["schedule.gamma_1"].double()
    with torch.no_grad():
        alpha_bar, variance = torch.sigmoid(-gamma_1.double()), torch.sigmoid(gamma_1.double())
        cut = informed * alpha_bar * (variance + case.config["embed_dim"] * alpha_bar) / 2.0
        off = (gamma_1.grad.double() - wanted).abs()
    assert off <= torch.maximum(cut / 2.0, 1e-5 * wanted.abs()), f"{case.name}: gamma_1 is off by {off:.1e}"
