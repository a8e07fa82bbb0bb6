"""What a space is."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dlkit.errors import UserError
from dlkit.kernels.cross_entropy import cross_entropy
from dlkit.kernels.nearest_token import Metric
from dlkit.part import Part


class TokenSpace(nn.Module):
    """Tokens and the states that stand for them: rows e_w of a table E, which need not exist as a tensor.

    Attributes:
        mean_embed: the mean m of the prior N(m, I) where a process learns one (DiffuSeq-v2), else None.
        aliases: entries of the state dictionary that are another entry's tensor, and are not stored.
    """

    mean_embed: nn.Parameter | None
    aliases: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("mean_embed", None)

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width d of a state."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of tokens V."""

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """A tensor with the device and the type of the states."""

    @property
    def variance(self) -> float:
        """Of a coordinate of the states of texts, roughly: how large a state is whose text is not known."""
        return 1.0

    @property
    def device(self) -> torch.device:
        return self.like.device

    @abstractmethod
    def embed(self, ids: Int[Tensor, "*b l"]) -> Float[Tensor, "*b l d"]:
        """e_w of each token."""

    def noised(
        self,
        ids: Int[Tensor, "b l"],
        alpha: Float[Tensor, "b *m"],
        sigma: Float[Tensor, "b *m"],
        eps: Float[Tensor, "b l d"],
    ) -> Float[Tensor, "b l d"]:
        """alpha e_w + sigma eps; ``eps`` may be written over.

        Args:
            ids: tokens.
            alpha, sigma: of each sample, shaped [b, 1], or of each position, [b, l].
            eps: standard normal states.
        """
        return alpha[..., None] * self.embed(ids) + sigma[..., None] * eps

    def state(self, token: int) -> Float[Tensor, " d"]:
        """e_w of one token."""
        return self.embed(torch.tensor([token], device=self.device))[0]

    @abstractmethod
    def logits(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l v"]:
        """How well each token fits each clean state."""

    def likeliest(self, x: Float[Tensor, "b l d"]) -> Int[Tensor, "b l"]:
        """argmax of the logits, the first one on ties."""
        return self.logits(x.detach()).argmax(-1)

    def cross_entropy(self, x: Float[Tensor, "b l d"], ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        """-log softmax(logits(x))[id] of every position, float32 or better. It can be differentiated once."""
        return cross_entropy(self.logits(x).flatten(0, 1), ids.flatten()).view_as(ids)

    @abstractmethod
    def mean(self, logits: Float[Tensor, "b l v"]) -> Float[Tensor, "b l d"]:
        """softmax(logits) E: the x0 that a distribution over tokens stands for."""

    @abstractmethod
    def evidence(
        self, x_t: Float[Tensor, "b l d"], alpha: Float[Tensor, "b *m"], sigma: Float[Tensor, "b *m"]
    ) -> Float[Tensor, "b l v"]:
        """log p(x_t | w) = log N(x_t; alpha e_w, sigma^2 I) but for what is the same for every token.

        Args:
            x_t: noisy states.
            alpha, sigma: shaped to multiply them.
        """

    @abstractmethod
    def nearest(self, x: Float[Tensor, "b l d"], metric: Metric = "l2") -> Int[Tensor, "b l"]:
        """The token whose state is nearest, in distance or in angle."""

    def rounded(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """The token state nearest to each state; no gradient goes back through it."""
        return self.embed(self.nearest(x)).detach().to(x.dtype)

    def learn_mean(self) -> None:
        """Give the prior a mean. Raises ``UserError`` where that makes no sense."""
        raise UserError(f"process: the states of {type(self).__name__} have no mean to learn; choose process=gaussian")


class Space(Part):
    """Settings of a :class:`TokenSpace`."""

    def width(self, vocab_size: int) -> int:
        """Width of a state; no memory is taken."""
        with torch.device("meta"):
            return self.build(vocab_size).dim

    @abstractmethod
    def build(self, vocab_size: int) -> TokenSpace:
        """A space for that many tokens."""
