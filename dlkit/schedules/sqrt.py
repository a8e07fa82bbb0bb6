"""The square-root schedule of Diffusion-LM, which DiffuSeq uses."""

from jaxtyping import Float
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._base import CappedSchedule


@register(
    "sqrt",
    description="alpha_bar falls with the square root of time: noise rises fast near clean text",
    paper="Li et al. 2022, Diffusion-LM Improves Controllable Text Generation (arXiv 2205.14217), appendix A",
)
class SqrtSchedule(CappedSchedule):
    """alpha_bar(t) = (1 - sqrt(t + s)) / (1 - sqrt(s)) with s = 1e-4, capped at the last step."""

    def _f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return (1.0 - (t + 1e-4).sqrt()) / 0.99

    def _d_f(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return -0.5 / ((t + 1e-4).sqrt() * 0.99)

    def _f_inverse(self, alpha_bar: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        return (1.0 - 0.99 * alpha_bar).square() - 1e-4
