"""A draw from the model's own output head."""

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dlkit.decoders import register
from dlkit.decoders._base import Decoder, Readable, by_logits
from dlkit.kernels.sample_token import sample_token


@register(
    "logits",
    description="a token drawn from softmax(logits / temperature), restricted to top-k and nucleus",
    paper="Fan et al. 2018 (arXiv 1805.04833), top-k; Holtzman et al. 2020 (arXiv 1904.09751), nucleus",
)
class Logits(Decoder):
    """p(v) ~ exp((x . E_v + bias_v) / temperature) over the kept tokens, each position on its own.

    Attributes:
        temperature: 0 takes the token of the highest logit, as ``linear_head`` does.
        top_k: only so many of the most likely tokens; None is all.
        top_p: only the fewest most likely of these whose probabilities, renormalised over them, reach this; 1 is all.
    """

    temperature: float = Field(default=1.0, ge=0.0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)

    def decode(
        self, x: Float[Tensor, "b l d"], space: Readable, u: Float[Tensor, "b l"] | None = None
    ) -> Int[Tensor, "b l"]:
        """Draw the token of every position. Raises ``ValueError`` without ``u``."""
        if u is None:
            raise ValueError("the decoder 'logits' draws, so it needs u: a uniform for each position")
        chances = u.reshape(-1)
        options = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return by_logits(x, space, lambda logits, part: sample_token(logits, chances[part], **options))
