"""The DiffuSeq family."""

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.embedding import sigma_0_noised
from dlkit.teachers import register
from dlkit.teachers._base import FitBatch, Original, ReadOptions, TeacherFamily, TeacherParts
from dlkit.teachers._diffuseq_read import official_name, read_run
from dlkit.teachers._diffuseq_run import recognises
from dlkit.teachers._diffuseq_write import write_run


@register(
    "diffuseq",
    description="partial noising of one sequence [source, target]; embeddings are learned with the network",
    paper="Gong et al. 2023, DiffuSeq (arXiv 2210.08933), eq. 8",
    licence="MIT (original code)",
)
class Diffuseq(TeacherFamily):
    """DiffuSeq's loss, the mean over all positions, source and padding included, of

        mse          |x_start - x0(x_t)|^2, with the bare embedding as target at the lowest time
        decoder_nll  cross-entropy of the tokens given x_start, which keeps embeddings apart
        tT           |alpha(1) x_start|^2 as the network sees it, nearly zero under most schedules

    with x_start = E[w] + sigma_0 eps_0 and the source of x_t held at x_start (the noisy anchor of the original). A
    network that puts out something else than x0 has its mse in that (``Denoiser.learned``): the target is turned into
    it. With the process ``mean_shift`` (DiffuSeq-v2, arXiv 2310.05793) some tokens of x_t are absorbed, and there is

        mean_norm    reg_rate |m|_2

    Official checkpoints are run folders with ``ema_RATE_STEP.pt`` and ``training_args.json``; Diffusion-LM's are alike.

    Attributes:
        reg_rate: weight of that term; the original's is always .01.
    """

    checkpoints: ClassVar[str] = "a run folder with ema_*.pt and training_args.json"
    reads: ClassVar[frozenset[str]] = frozenset({"tokenizer", "tie", "step", "heads", "allow_unused"})

    reg_rate: float = Field(default=0.01, ge=0.0)

    def recognises(self, path: Path) -> bool:
        return recognises(path)

    def read(self, path: Path, options: ReadOptions) -> Original:
        return read_run(path, options)

    def write(self, folder: Path, parts: TeacherParts) -> None:
        write_run(folder, parts)

    def losses(self, denoiser: Denoiser, batch: FitBatch) -> dict[str, Float[Tensor, " b"]]:
        process, space = denoiser.process, denoiser.space
        x_mean = space.embed(batch.ids)
        x_start = sigma_0_noised(x_mean, process.sigma_0, batch.normal("eps_0"))
        cond = Condition(x_start, batch.mask)
        x_t = cond.apply(noised(process, x_start, batch))
        found = denoiser.predict(x_t, batch.t, cond, to=denoiser.learned).value
        lowest = (batch.t <= process.noise_schedule.t_min)[:, None, None]
        end = torch.ones_like(batch.t)
        target = torch.where(lowest, x_mean, x_start)
        wanted = process.convert(target, x_t, batch.t, "x0", denoiser.learned)
        terms = {
            "mse": (wanted - found).square().mean((1, 2)),
            "decoder_nll": space.cross_entropy(x_start, batch.ids).mean(1),
            "tT": process.network_input(process.alpha(end, x_start) * x_start, end).square().mean((1, 2)),
        }
        if space.mean_embed is not None:
            terms["mean_norm"] = (self.reg_rate * space.mean_embed.norm()).expand_as(terms["mse"])
        return terms


def noised(process: GaussianProcess, x0: Float[Tensor, "b l d"], batch: FitBatch) -> Float[Tensor, "b l d"]:
    """x_t at the batch's times, with the tokens absorbed that its uniforms choose."""
    x_t = process.q_sample(x0, batch.t, batch.normal("eps_t"))
    return process.absorb(x_t, process.noise_schedule.sigma(batch.t), lambda: batch.uniform("absorb", x0.shape[1]))


def official_state(denoiser: Denoiser) -> dict[str, Tensor]:
    """The parameters under the names of the original checkpoint: 211 at the official size, 212 with a learned mean."""
    state = denoiser.state_dict()
    return {official_name(name): tensor for name, tensor in state.items()}
