"""The anchor family: its loss, and the way in and out for its checkpoints."""

from pathlib import Path
from typing import ClassVar

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.teachers import register
from dlkit.teachers._base import FitBatch, Original, ReadOptions, TeacherFamily, TeacherParts
from dlkit_anchor import checkpoint


@register(
    "anchor",
    description="predicts clean embeddings; the tokens are read from the prediction, which keeps embeddings apart",
    paper="Gao et al. 2022, Difformer (arXiv 2212.09412)",
)
class Anchor(TeacherFamily):
    """Means over generated positions of

        mse     |E[w] - x0(x_t)|^2 / d
        anchor  anchor_weight times the cross-entropy of the tokens given x0(x_t)

    Embeddings are noised bare, and the source is held at its own.

    Attributes:
        anchor_weight: of the cross-entropy.
    """

    checkpoints: ClassVar[str] = f"a folder with {checkpoint.WEIGHTS} and {checkpoint.SETTINGS}"
    reads: ClassVar[frozenset[str]] = frozenset({"tokenizer", "allow_unused"})

    anchor_weight: float = Field(default=1.0, ge=0.0)

    def recognises(self, path: Path) -> bool:
        return checkpoint.recognises(path)

    def read(self, path: Path, options: ReadOptions) -> Original:
        return checkpoint.read(path, options)

    def write(self, folder: Path, parts: TeacherParts) -> None:
        checkpoint.write(folder, parts)

    def losses(self, denoiser: Denoiser, batch: FitBatch) -> dict[str, Float[Tensor, " b"]]:
        embedded = denoiser.space.embed(batch.ids)
        cond = Condition(embedded, batch.mask)
        x_t = denoiser.process.q_sample(embedded, batch.t, batch.normal("eps_t"), cond)
        x0 = denoiser.predict(x_t, batch.t, cond).x0
        nll = F.cross_entropy(denoiser.space.logits(x0).mT, batch.ids, reduction="none")
        return {
            "mse": masked_mean((embedded - x0).square().mean(-1), batch.mask),
            "anchor": self.anchor_weight * masked_mean(nll, batch.mask),
        }


def masked_mean(values: Float[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, " b"]:
    """The mean of each sample over its True positions; zero if there are none."""
    return (values * mask).sum(1) / mask.sum(1).clamp_min(1)
