"""The FLM family."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.errors import UserError
from dlkit.kernels.cross_entropy import cross_entropy
from dlkit.teachers import register
from dlkit.teachers._base import FitBatch, Original, ReadOptions, TeacherFamily, TeacherParts
from dlkit.teachers._flm_read import read_checkpoint
from dlkit.teachers._flm_write import write_checkpoint


@register(
    "flm",
    description="a straight flow from noise to one-hot tokens, learned by cross-entropy; time is token accuracy",
    paper="FLM (arXiv 2602.16813)",
    licence="Apache-2.0 (original code)",
)
class Flm(TeacherFamily):
    """FLM's loss, the mean over the generated positions of -log p(w | x_t), with the network's own logits:

        ce           that cross-entropy
        weighted_ce  exp(-w) ce + w in its place, where the network learns w(t) (``backbone.loss_weighting``): where w
                     is log ce, every time counts alike

    x_t = alpha e_w + sigma eps; given positions are clean. Where states are one-hot, three of their size [b, l, V] are
    held at once: x_t, the logits, and in the backward pass the gradient of the logits.

    Official checkpoints are files that Lightning writes, of flow models and of students of two times.
    """

    checkpoints: ClassVar[str] = "a Lightning checkpoint *.ckpt"
    reads: ClassVar[frozenset[str]] = frozenset({"tokenizer", "heads", "allow_unused", "raw"})
    usual: ClassVar[dict[str, Any]] = {
        "space": "one_hot",
        "process": {"name": "gaussian", "schedule": "token_accuracy"},
        "backbone": "flm",
        "prediction": "logits",
        "layout": "packed",
    }
    usual_fit: ClassVar[dict[str, Any]] = {"time_sampler": "stratified"}
    usual_sampler: ClassVar[str] = "euler"

    def recognises(self, path: Path) -> bool:
        return any(path.glob("*.ckpt")) if path.is_dir() else path.is_file() and path.suffix == ".ckpt"

    def read(self, path: Path, options: ReadOptions) -> Original:
        return read_checkpoint(path, options)

    def write(self, folder: Path, parts: TeacherParts) -> None:
        write_checkpoint(folder, parts)

    def losses(self, denoiser: Denoiser, batch: FitBatch) -> dict[str, Float[Tensor, " b"]]:
        cross_entropy = token_losses(denoiser, batch)
        mask = batch.mask.float()
        mean = (cross_entropy * mask).sum(1) / mask.sum(1).clamp_min(1.0)
        weighting = getattr(denoiser.backbone, "learnable_loss_weighting", None)
        if weighting is None:
            return {"ce": mean}
        w = weighting(denoiser.process.noise_schedule.network_time(batch.t))
        return {"weighted_ce": torch.exp(-w) * mean + w}


def token_losses(denoiser: Denoiser, batch: FitBatch) -> Float[Tensor, "b l"]:
    """Cross-entropy of every token.

    Raises:
        UserError: the network puts out no logits, or the process has a mean.
    """
    if denoiser.prediction != "logits" or denoiser.process.mean is not None:
        raise UserError(
            "the family 'flm' learns logits of states without a mean; set prediction=logits and a process without one, "
            "such as gaussian"
        )
    x_t = noised(denoiser, batch)
    logits = denoiser.logits(x_t, batch.t, Condition(None, batch.mask))
    return cross_entropy(logits.flatten(0, 1), batch.ids.flatten()).view_as(batch.ids)


def noised(denoiser: Denoiser, batch: FitBatch) -> Float[Tensor, "b l d"]:
    """x_t of the batch, its given positions clean."""
    process, space, mask = denoiser.process, denoiser.space, batch.mask
    like = mask.to(space.like.dtype)
    alpha = torch.where(mask, process.alpha(batch.t, like), 1.0)
    sigma = torch.where(mask, process.sigma(batch.t, like), 0.0)
    return space.noised(batch.ids, alpha, sigma, batch.normal("eps_t"))
