"""DiffuSeq's training loss and its gradients, with the original's recorded noise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.denoiser import Denoiser
from dlkit.spaces.embedding import sigma_0_noised
from dlkit.teachers._base import FitBatch
from dlkit.teachers.diffuseq import Diffuseq
from parity.cases import Case
from parity.diffuseq_network import network

TERMS = {"mse": "mse", "decoder_nll": "decoder_nll", "tT": "tT_loss"}
GIVEN = {"input_ids", "input_mask", "t", "noise_x0", "noise_xt"}
SEEN = {"x_t", "network_time", "model_output", "mse_plain", "mse_t0", "nll", "loss"}


def check(case: Case) -> None:
    golden, denoiser = case.arrays(), network(case)
    assert golden.keys() == {*GIVEN, *SEEN, *TERMS.values()}
    batch = FitBatch(
        ids=golden["input_ids"],
        mask=golden["input_mask"].bool(),
        t=denoiser.process.noise_schedule.time_of(golden["t"]),  # type: ignore[attr-defined]
        normal={"eps_0": golden["noise_x0"], "eps_t": golden["noise_xt"]}.__getitem__,
        uniform=lambda name, *shape: torch.rand(len(golden["t"]), *shape),
    )
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    denoiser.backbone.register_forward_hook(lambda _m, args, out: seen.append((*args[:2], out[0])))
    terms = Diffuseq().losses(denoiser, batch)
    ((x_t, time, x0),) = seen
    case.close(x_t, golden["x_t"], "x_t")
    case.close(time.float(), golden["network_time"], "network_time")
    case.close(x0, golden["model_output"], "model_output")
    assert terms.keys() == TERMS.keys()
    for ours, theirs in TERMS.items():
        case.close(terms[ours], golden[theirs], theirs)
    loss = torch.stack(list(terms.values())).sum(0)
    case.close(loss, golden["loss"], "loss")
    check_what_is_only_watched(case, denoiser, batch, x0)
    loss.mean().backward()
    check_gradients(case, denoiser)


def check_what_is_only_watched(case: Case, denoiser: Denoiser, batch: FitBatch, x0: Tensor) -> None:
    """The two targets that the mse has by turns, and how well x0 names the target's tokens: no part of the loss."""
    golden, space = case.arrays(), denoiser.space
    x_mean = space.embed(batch.ids)
    x_start = sigma_0_noised(x_mean, denoiser.process.sigma_0, batch.normal("eps_0"))
    for name, target in (("mse_plain", x_start), ("mse_t0", x_mean)):
        case.close(F.mse_loss(x0, target, reduction="none").mean((1, 2)), golden[name], name)
    nll = F.cross_entropy(space.logits(x0).transpose(1, 2), batch.ids, reduction="none")
    case.close((nll * batch.mask).sum(1) / batch.mask.sum(1), golden["nll"], "nll")


def check_gradients(case: Case, denoiser: Denoiser) -> None:
    """Under the original's names; its tied table is one parameter."""
    wanted = case.arrays("grads")
    ours = {f"grad.{name.partition('.')[2]}": parameter.grad for name, parameter in denoiser.named_parameters()}
    assert ours.keys() == wanted.keys()
    for name, gradient in ours.items():
        assert gradient is not None, name
        case.close(gradient, wanted[name], name, prefix="grad_")
