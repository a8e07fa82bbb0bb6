"""The Plaid family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from dlkit.backbones.plaid import BASE_WIDTH
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.errors import UserError
from dlkit.part import Part
from dlkit.schedules.learned_gamma import LearnedGamma, MonotoneGamma
from dlkit.spaces._table import TableSpace
from dlkit.teachers import register
from dlkit.teachers._base import FitBatch, Original, ReadOptions, TeacherFamily, TeacherParts
from dlkit.teachers._plaid_read import read_files, recognises
from dlkit.teachers._plaid_write import write_files

Rows = Float[Tensor, " b"]


class Noised(NamedTuple):
    """Texts on their way through the noise.

    Attributes:
        e: embeddings; z: noisy states.
        gamma: minus the log SNR; slope: its derivative by the share of the noisy part of time.
        informed: rows that are given an estimate of x0, and teach embeddings and schedule nothing.
        evidence: share of the state's own likelihood in the logits.
        segments: of each position, see :class:`dlkit.backbones.plaid.PlaidBackbone`; None where no row is cut.
    """

    e: Float[Tensor, "b l d"]
    z: Float[Tensor, "b l d"]
    gamma: Rows
    slope: Rows
    informed: Bool[Tensor, " b"]
    evidence: float
    segments: Int[Tensor, "b l"] | None


@register(
    "plaid",
    description="the likelihood bound of text in learned unit embeddings, its noise schedule learned for low variance",
    paper="Gulrajani & Hashimoto 2023, Plaid (arXiv 2305.18619); Kingma et al. 2021 (2107.00630), eq. 11 and 17",
)
class Plaid(TeacherFamily):
    """The variational bound of -log p(text), in nats for each generated position:

        reconst    -log p(tokens | z) at the least noise, t_min
        diffusion  1/2 e^-gamma gamma' |e - x0(z)|^2, gamma' by the time that goes from 0 to 1 over the noisy part
        prior      KL(N(alpha_1 e, sigma_1^2) || N(0, I)) at t = 1

    A row whose time is t_min gives the first, every other row the second, and the time sampler ``vlb`` weights rows so
    that the mean over the batch is the bound; every row gives the third, which its weight is taken off beforehand.
    Everything minimises the bound but the shape of the schedule, on which it does not depend: that minimises the mean
    square of ``diffusion``, and with it the variance of the bound.

    Some rows are given the network's own first estimate of x0; there the embeddings and the schedule learn nothing. The
    share of the state's own likelihood in the logits rises from 0 to 1.

    Official checkpoints are folders with the files ``noise_schedule.pt``, ``gamma_bounds.pt``, ``embedding_matrix.pt``
    and ``model.pt``, and the tokenizer beside them.

    Attributes:
        self_condition: share of the rows that are given an estimate.
        bias_warmup: updates over which the state's likelihood comes in.
        split: share of the rows that are cut in two at a random place, so that the network sees shorter texts too; the
            original cuts 2 of 256.
        fast_lr: what the learning rate of embeddings and schedule is multiplied by; the original's are 1e-2 beside
            1.4e-3. Matrices inside the blocks have 256 / hidden of it, as muP asks.
    """

    checkpoints: ClassVar[str] = "a folder with noise_schedule.pt, gamma_bounds.pt, embedding_matrix.pt and model.pt"
    reads: ClassVar[frozenset[str]] = frozenset({"tokenizer", "heads", "allow_unused"})
    usual: ClassVar[dict[str, Any]] = {
        "space": "unit_norm",
        "process": {"name": "gaussian", "schedule": "learned_gamma"},
        "backbone": "plaid",
        "prediction": "prior_logits",
    }
    usual_fit: ClassVar[dict[str, Any]] = {"time_sampler": "vlb"}
    usual_sampler: ClassVar[str] = "plaid"

    self_condition: float = Field(default=0.25, ge=0.0, le=1.0)
    bias_warmup: int = Field(default=5000, ge=0)
    split: float = Field(default=0.0078125, ge=0.0, le=1.0)
    fast_lr: float = Field(default=7.0, gt=0.0)

    def recognises(self, path: Path) -> bool:
        return recognises(path)

    def read(self, path: Path, options: ReadOptions) -> Original:
        return read_files(path, options)

    def write(self, folder: Path, parts: TeacherParts) -> None:
        write_files(folder, parts)

    def refuse_times(self, sampler: Part) -> None:
        if sampler.registered_name != "vlb":
            raise UserError(
                f"fit.time_sampler={sampler.registered_name}: teachers of 'plaid' have a term at t_min, which only "
                "'vlb' draws; set fit.time_sampler=vlb"
            )

    def lr_scale(self, name: str, parameter: Tensor) -> float:
        if name.startswith(("space.", "schedule.")):
            return self.fast_lr
        inside = name.startswith("backbone.blocks.") and parameter.ndim == 2
        return BASE_WIDTH / min(parameter.shape) if inside else 1.0

    def losses(self, denoiser: Denoiser, batch: FitBatch) -> dict[str, Float[Tensor, " b"]]:
        schedule, weights, space, backbone = _parts(denoiser)
        u = schedule.share_of_noisy(batch.t)
        rise, slope = weights.rise(u), weights.slope(u)
        now = self._noised(weights, space, batch, rise, slope)
        logits = _logits(backbone, space, now, self._first_estimate(backbone, space, now))
        log_norm = logits.logsumexp(-1)
        x0 = _mean(torch.exp(logits - log_norm[..., None]), space.table, now.informed)
        nll = log_norm - logits.gather(-1, batch.ids[..., None])[..., 0]
        mean = lambda value: (value.double() * batch.mask).sum(1) / batch.mask.sum(1).clamp_min(1)  # noqa: E731
        rest = batch.t <= schedule.t_min
        error = mean((now.e - x0).square().sum(-1))
        diffusion = torch.where(rest, 0.0, 0.5 * torch.exp(-now.gamma) * now.slope * error)
        _minimise_squares(diffusion, rise, slope)
        prior = mean(_divergence(now.e, _cut(weights.bounds[1].expand_as(u), now.informed)))
        return {
            "reconst": torch.where(rest, mean(nll), 0.0),
            "diffusion": diffusion,
            "prior": prior / batch.weight,
        }

    def _noised(self, weights: MonotoneGamma, space: TableSpace, batch: FitBatch, rise: Rows, slope: Rows) -> Noised:
        informed = batch.uniform("self_condition") < self.self_condition
        low, high = weights.bounds
        gamma = _cut(low + (high - low) * rise, informed)
        e = _cut(space.embed(batch.ids), informed)
        alpha, sigma = _coefficients(gamma, e)
        return Noised(
            e=e,
            z=Condition(e, batch.mask).apply(alpha * e + sigma * batch.normal("eps_t")),
            gamma=gamma,
            slope=_cut((high - low) * slope, informed),
            informed=informed,
            evidence=min(1.0, batch.done / self.bias_warmup) if self.bias_warmup else 1.0,
            segments=self._segments(batch),
        )

    def _segments(self, batch: FitBatch) -> Int[Tensor, "b l"] | None:
        """0 before the place where a row is cut, 1 from there on."""
        if not self.split:
            return None
        chance, place = batch.uniform("split", 2).unbind(1)
        length = batch.ids.shape[1]
        start = torch.where(chance < self.split, (place * length).floor(), 0.0)
        return (torch.arange(length, device=start.device) >= start[:, None]).long()

    @torch.no_grad()
    def _first_estimate(self, backbone: nn.Module, space: TableSpace, now: Noised) -> Float[Tensor, "b l d"]:
        """What the network says of the informed rows without any estimate; nothing of the others.

        Only those rows are asked of, but in a compiled graph, whose shapes do not depend on values: all.
        """
        every = torch.arange(len(now.z), device=now.z.device)
        rows = every if torch.compiler.is_compiling() else every[now.informed]
        segments = None if now.segments is None else now.segments[rows]
        asked = Noised(
            now.e[rows], now.z[rows], now.gamma[rows], now.slope[rows], now.informed[rows], now.evidence, segments
        )
        found = space.mean(_logits(backbone, space, asked, None))
        return torch.where(now.informed[:, None, None], torch.zeros_like(now.z).index_copy(0, rows, found), 0.0)


def _parts(denoiser: Denoiser) -> tuple[LearnedGamma, MonotoneGamma, TableSpace, nn.Module]:
    """What the loss is made for. Raises ``UserError`` if the teacher has other parts."""
    schedule, space, backbone = denoiser.process.noise_schedule, denoiser.space, denoiser.backbone
    if not isinstance(schedule, LearnedGamma) or schedule.held is None:
        raise UserError("teachers of 'plaid' learn their schedule; set model.process.schedule=learned_gamma")
    if not isinstance(space, TableSpace):
        raise UserError("teachers of 'plaid' have a table of embeddings; set model.space=unit_norm")
    fits = getattr(backbone, "own_logits", False) and denoiser.self_conditions
    if not fits or denoiser.prediction != "prior_logits":
        raise UserError(
            "teachers of 'plaid' take an estimate of x0 and put out logits without the state's own likelihood; "
            "set model.backbone=plaid and model.prediction=prior_logits"
        )
    return schedule, schedule.held, space, backbone


def _logits(
    backbone: nn.Module, space: TableSpace, now: Noised, estimate: Float[Tensor, "b l d"] | None
) -> Float[Tensor, "b l v"]:
    """The network's logits and the evidence of the states.

    gamma stays float64 here, which its gradient needs. In the informed rows the state holds nothing that learns, so
    that to cut the whole of the evidence is to cut the table's part.
    """
    more = {} if now.segments is None else {"segments": now.segments}
    output, _ = backbone(now.z, now.gamma, None, self_cond=estimate, **more)
    with torch.autocast(now.z.device.type, enabled=False):
        evidence = space.evidence(now.z, *_coefficients(now.gamma, now.z))
    return output + now.evidence * _cut(evidence, now.informed)


def _mean(
    p: Float[Tensor, "b l v"], table: Float[Tensor, "v d"], informed: Bool[Tensor, " b"]
) -> Float[Tensor, "b l d"]:
    """p E, whose gradient reaches p in every row and E in those that are not informed."""
    with torch.autocast(p.device.type, enabled=False):
        by_table = _cut(p.detach() @ table, informed)
        return p @ table.detach() + (by_table - by_table.detach())


def _cut(x: Float[Tensor, "b *n"], informed: Bool[Tensor, " b"]) -> Float[Tensor, "b *n"]:
    """x, without gradient in the informed rows."""
    return torch.where(informed.reshape(-1, *[1] * (x.ndim - 1)), x.detach(), x)


def _coefficients(gamma: Rows, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma, shaped to multiply states."""
    alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
    return alpha.to(like.dtype)[:, None, None], sigma.to(like.dtype)[:, None, None]


def _divergence(e: Float[Tensor, "b l d"], gamma_1: Rows) -> Float[Tensor, "b l"]:
    """KL(N(alpha_1 e, sigma_1^2) || N(0, I)) = 1/2 sum(alpha_1^2 e^2 + sigma_1^2 - 1 - log sigma_1^2)."""
    alpha_bar, variance = torch.sigmoid(-gamma_1)[:, None, None], torch.sigmoid(gamma_1)[:, None, None]
    return 0.5 * (alpha_bar * e.double().square() + variance - 1.0 - variance.log()).sum(-1)


def _minimise_squares(loss: Rows, *inputs: Rows) -> None:
    """What a row's gradient brings to the inputs becomes that of the loss's square: 2 loss times as much."""
    factor = 2.0 * loss.detach()
    hook: Callable[[Tensor], Tensor] = lambda gradient: gradient * factor  # noqa: E731
    for each in inputs:
        if each.requires_grad:
            each.register_hook(hook)
