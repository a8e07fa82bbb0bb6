"""How likely a teacher finds texts: a bound of their negative log-likelihood, with its protocol."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlkit.data.sequences import Batch, Layout, Overlong, Rows
from dlkit.data.splits import fingerprint
from dlkit.data.tokenizer import Tokenizer
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.evaluation.protocol import versions
from dlkit.generator import Teacher
from dlkit.randomness import Stream
from dlkit.schedules._base import VariancePreserving
from dlkit.training.data import Corpus, read_examples

Terms = dict[str, Float[Tensor, " b"]]


@torch.no_grad()
def bound(
    denoiser: Denoiser,
    ids: Int[Tensor, "b l"],
    mask: Bool[Tensor, "b l"],
    t: Float[Tensor, " b"],
    eps: tuple[Float[Tensor, "b l d"], Float[Tensor, "b l d"]],
    is_conditional: bool = False,
) -> Terms:
    """One draw of the bound -log p(text) <= reconst + diffusion + prior of each text, in nats over its generated part:

        reconst    -log p(tokens | z), by the network's logits at t_min
        diffusion  (1 - t_min) / 2 (-d SNR / dt) |e - x0(z, t)|^2 at a time t uniform between t_min and 1
        prior      KL(N(alpha_1 e, sigma_1^2) || N(0, I))

    Kingma et al. 2021, Variational Diffusion Models (arXiv 2107.00630), eq. 11 and 15. The mean over t and eps is the
    bound; it holds for any network and any embeddings. A network that takes an estimate of x0 gets its own first one.

    Args:
        denoiser: of a variance-preserving process whose prior has the mean 0.
        ids, mask: texts; mask is True where the text is generated.
        t: times.
        eps: standard normal, for t_min and for t.
        is_conditional: the other positions hold a source, which is given.
    """
    process, schedule = denoiser.process, denoiser.process.noise_schedule
    e = denoiser.space.embed(ids)
    cond = Condition(e if is_conditional else None, mask)
    rest = torch.full_like(t, schedule.t_min)

    def asked(time: Tensor, noise: Tensor, want: frozenset[str]) -> Any:
        z = process.q_sample(e, time, noise, cond)
        first = denoiser.predict(z, time, cond).x0 if denoiser.self_conditions else None
        return denoiser.predict(z, time, cond, self_cond=first, want=want)

    logits = asked(rest, eps[0], frozenset({"x0", "logits"})).logits
    nll = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
    error = (e - asked(t, eps[1], frozenset({"x0"})).x0).double().square().sum(-1)
    falls = -schedule.d_log_snr(t) * torch.exp(schedule.log_snr(t)) * (1.0 - schedule.t_min)
    alpha_bar, variance = (f(torch.ones_like(t)).square()[:, None] for f in (schedule.alpha, schedule.sigma))
    length = e.double().square().sum(-1)
    prior = 0.5 * (alpha_bar * length + e.shape[-1] * (variance - 1.0 - variance.log()))
    over = lambda value: (value.double() * mask).sum(1)  # noqa: E731
    return {"reconst": over(nll), "diffusion": 0.5 * falls * over(error), "prior": over(prior)}


@dataclass(frozen=True)
class Likelihood:
    """A bound of texts' negative log-likelihood, and how it was found.

    Attributes:
        nats_per_token, bits_per_token: of all rows together, over their tokens; with ``padding_counted`` padding counts
            as tokens. The nats are of everything that is generated in either case, padding included: only so is it a
            bound.
        standard_error: of nats_per_token, over the rows; None of a single one.
        perplexity: exp of nats_per_token.
        terms: shares of the three terms in nats_per_token.
        n_rows, n_tokens: what was measured.
        draws: of time and noise for each row; the times of a row are stratified over the noisy part.
        t_min: where the reconstruction is read.
        seed, padding_counted: of the measurement.
        seq_len, layout, overlong: how texts became rows.
        n_truncated: rows that were cut.
        last_row: ids of a last packed row that the texts did not fill; it is measured at its own length. None where
            there is no such row.
        tokenizer: what the teacher's Recipe calls it, its size and its hash.
        data: hash of the split's file, and its name; empty for texts that are in no file.
        model: the teacher's fingerprint.
        versions: of the libraries.
    """

    nats_per_token: float
    bits_per_token: float
    standard_error: float | None
    perplexity: float
    terms: dict[str, float]
    n_rows: int
    n_tokens: int
    draws: int
    t_min: float
    seed: int
    padding_counted: bool
    seq_len: int
    layout: Layout
    overlong: Overlong
    n_truncated: int
    last_row: int | None
    tokenizer: dict[str, str | int]
    data: dict[str, str]
    model: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        counted = "counted" if self.padding_counted else "not counted"
        error = "" if self.standard_error is None else f" ± {self.standard_error:.4f}"
        cut = f", {self.n_truncated} of them cut to {self.seq_len} ids" if self.n_truncated else ""
        short = "" if self.last_row is None else f", the last of only {self.last_row} ids"
        return (
            f"at most {self.nats_per_token:.4f}{error} nats ({self.bits_per_token:.4f} bits) per token, "
            f"{self.n_tokens} tokens in {self.n_rows} rows{cut}{short}, {self.draws} draws each, padding {counted}"
        )


def likelihood(
    teacher: Teacher,
    data: str | Path,
    split: str = "test",
    *,
    limit: int | None = None,
    draws: int = 8,
    seed: int = 0,
    batch_size: int = 64,
    padding_counted: bool = False,
) -> Likelihood:
    """The bound of the texts of a split, under the teacher.

    Args:
        teacher: whose layout says how texts become rows, and whether their sources are given.
        data: folder with the split.
        limit: only the first so many texts.
        draws: Monte-Carlo draws for each row.
        seed: of the noise.
        batch_size: rows at once.
        padding_counted: divide by all generated positions, not only by those that hold text.

    Raises:
        UserError: the data cannot be read, an argument is out of range, the bound is not known for the process, or it
            is no number.
    """
    arch = teacher.architecture
    examples = read_examples(data, split, arch.layout, limit)
    shape = (teacher.tokenizer, arch.seq_len)
    if arch.layout == "packed":
        rows = Rows.packed_to_the_end(list(examples), *shape)  # type: ignore[arg-type]
    else:
        rows = [Corpus(data, *shape, arch.overlong, examples, arch.layout, split).rows]
    found = {"split": split, "sha256": fingerprint(data, split), "limit": "all" if limit is None else str(limit)}
    options = {"draws": draws, "seed": seed, "batch_size": batch_size, "padding_counted": padding_counted}
    return of_rows(teacher, rows, found, **options)


def of_rows(
    teacher: Teacher,
    rows: Sequence[Rows],
    data: dict[str, str],
    *,
    draws: int = 8,
    seed: int = 0,
    batch_size: int = 64,
    padding_counted: bool = False,
) -> Likelihood:
    """:func:`likelihood` of rows that are at hand, those of one length together."""
    if min(draws, batch_size) < 1:
        raise UserError(f"draws and batch_size must be at least 1, not {draws} and {batch_size}")
    denoiser, arch = teacher.denoiser, teacher.architecture
    _refuse_other_processes(denoiser.process)
    terms = _drawn(teacher, rows, draws, seed, batch_size)
    _refuse_what_is_no_number(terms)
    tokens = torch.cat([_counted(teacher, each, padding_counted) for each in rows])
    n_tokens = int(tokens.sum())
    nats = torch.stack(list(terms.values())).sum(0)
    mean = float(nats.sum()) / max(n_tokens, 1)
    spread = (nats - mean * tokens).square().sum() / max(len(nats) - 1, 1)
    error = float(spread.sqrt()) * len(nats) ** 0.5 / max(n_tokens, 1)
    last = rows[-1].ids.shape[1]
    return Likelihood(
        nats_per_token=mean,
        bits_per_token=mean / math.log(2.0),
        standard_error=error if len(nats) > 1 else None,
        perplexity=math.exp(min(mean, 700.0)),
        terms={name: float(term.sum()) / max(n_tokens, 1) for name, term in terms.items()},
        n_rows=len(nats),
        n_tokens=n_tokens,
        draws=draws,
        t_min=denoiser.process.noise_schedule.t_min,
        seed=seed,
        padding_counted=padding_counted,
        seq_len=arch.seq_len,
        layout=arch.layout,
        overlong=arch.overlong,
        n_truncated=sum(each.n_truncated for each in rows),
        last_row=last if last < arch.seq_len else None,
        tokenizer=_identity(teacher.tokenizer, teacher.recipe.model.tokenizer),
        data=data,
        model=teacher.fingerprint(),
        versions=versions(),
    )


def _drawn(teacher: Teacher, rows: Sequence[Rows], draws: int, seed: int, batch_size: int) -> Terms:
    """The terms of each row, means over the draws; rows are numbered through."""
    found, before = [], 0
    for same in rows:
        for index in torch.arange(len(same)).split(batch_size):
            found.append(_mean_over_draws(teacher, same.gather(index), before + index, draws, seed))
        before += len(same)
    return {name: torch.cat([terms[name] for terms in found]) for name in found[0]}


def _mean_over_draws(teacher: Teacher, batch: Batch, number: Int[Tensor, " b"], draws: int, seed: int) -> Terms:
    """Draw k has its time in the k-th part of the noisy ones."""
    denoiser, schedule = teacher.denoiser, teacher.denoiser.process.noise_schedule
    ids, mask, own = (each.to(teacher.device) for each in (batch.ids, batch.mask, number))
    shape = (ids.shape[1], denoiser.space.dim)
    each = []
    for k in range(draws):
        stream = lambda name, k=k: Stream(seed, f"likelihood/{name}", k)  # noqa: E731
        t = schedule.t_min + (1.0 - schedule.t_min) * (k + stream("time").uniform(own)) / draws
        eps = (stream("rest").normal(own, *shape), stream("noise").normal(own, *shape))
        each.append(bound(denoiser, ids, mask, t, eps, teacher.architecture.is_conditional))
    return {name: torch.stack([terms[name] for terms in each]).mean(0).cpu() for name in each[0]}


def _counted(teacher: Teacher, rows: Rows, padding_counted: bool) -> Float[Tensor, " n"]:
    """Tokens of each row. Packed rows have no padding; the same token may end texts there."""
    if padding_counted or teacher.architecture.layout == "packed":
        return rows.mask.sum(1).double()
    return (rows.mask & (rows.ids != teacher.tokenizer.pad_id)).sum(1).double()


def _identity(tokenizer: Tokenizer, name: str) -> dict[str, str | int]:
    """What tells a tokenizer from others; of a path only the last part."""
    digest = hashlib.sha256(tokenizer.backend.to_str().encode())
    shown = Path(name).name if Path(name).is_absolute() or Path(name).exists() else name
    return {"name": shown, "vocab_size": tokenizer.vocab_size, "sha256": digest.hexdigest()}


def _refuse_what_is_no_number(terms: Terms) -> None:
    for name, term in terms.items():
        if wrong := int((~term.isfinite()).sum()):
            raise UserError(
                f"the bound is no number: its term {name!r} is not finite in {wrong} of {len(term)} rows; the "
                "teacher's weights or its schedule are broken, take another checkpoint"
            )


def _refuse_other_processes(process: GaussianProcess) -> None:
    if not isinstance(process.schedule, VariancePreserving) or process.learns_mean or process.noise_schedule.positions:
        raise UserError(
            f"the bound is for processes that keep the variance around 0, not for {process.registered_name!r} with the "
            f"schedule {process.noise_schedule.registered_name!r}"
        )
