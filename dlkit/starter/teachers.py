"""A teacher family."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.teachers import register
from dlkit.teachers._base import FitBatch, TeacherFamily


@register("starter", description="predicts clean embeddings and reads the tokens from the prediction")
class Starter(TeacherFamily):
    """Means over all positions of |E[w] - x0(x_t)|^2 / d and, times ``token_weight``, of the tokens' cross-entropy.

    Attributes:
        token_weight: of the cross-entropy given x0(x_t), which keeps embeddings apart.
    """

    token_weight: float = Field(default=1.0, ge=0.0)

    def losses(self, denoiser: Denoiser, batch: FitBatch) -> dict[str, Float[Tensor, " b"]]:
        embedded = denoiser.space.embed(batch.ids)
        cond = Condition(embedded, batch.mask)
        x_t = denoiser.process.q_sample(embedded, batch.t, batch.normal("eps_t"), cond)
        x0 = denoiser.predict(x_t, batch.t, cond).x0
        tokens = denoiser.space.cross_entropy(x0, batch.ids)
        return {"mse": (embedded - x0).square().mean((1, 2)), "tokens": self.token_weight * tokens.mean(1)}
