"""Tokens as corners of a simplex."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlkit.kernels.nearest_token import Metric
from dlkit.spaces import register
from dlkit.spaces._base import Space, TokenSpace


class OneHotSpace(TokenSpace):
    """e_w is 1 at w and 0 elsewhere, so that d = V and the table, the unit matrix, need not exist.

    A state [b, l, V] is as large as logits, gigabytes where texts are long, so this says how many there are at once, in
    states: :meth:`embed`, :meth:`mean` and :meth:`logits` make the one they return, and :meth:`noised` makes none.
    """

    _like: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self._vocab_size = vocab_size
        self.register_buffer("_like", torch.zeros(()), persistent=False)

    @property
    def dim(self) -> int:
        return self._vocab_size

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def variance(self) -> float:
        """1 / V, nearly: of V coordinates one is 1."""
        return 1.0 / self.vocab_size

    @property
    def like(self) -> Tensor:
        return self._like

    def embed(self, ids: Int[Tensor, "*b l"]) -> Float[Tensor, "*b l v"]:
        return self.like.new_zeros(*ids.shape, self.dim).scatter_(-1, ids[..., None], 1.0)

    def noised(
        self,
        ids: Int[Tensor, "b l"],
        alpha: Float[Tensor, "b *m"],
        sigma: Float[Tensor, "b *m"],
        eps: Float[Tensor, "b l v"],
    ) -> Float[Tensor, "b l v"]:
        """alpha e_w + sigma eps, written over ``eps``."""
        share = alpha[..., None].to(eps.dtype).expand(*ids.shape, 1)
        return eps.mul_(sigma[..., None]).scatter_add_(-1, ids[..., None], share)

    def logits(self, x: Float[Tensor, "b l v"]) -> Float[Tensor, "b l v"]:
        """log x, of which a softmax is x again where it is a distribution; what is not positive is all but impossible.

        The likeliest token is the nearest one.
        """
        return x.clamp_min(torch.finfo(x.dtype).tiny).log()

    def mean(self, logits: Float[Tensor, "b l v"]) -> Float[Tensor, "b l v"]:
        """softmax(logits)."""
        return logits.softmax(-1)

    def evidence(
        self, x_t: Float[Tensor, "b l v"], alpha: Float[Tensor, "b *m"], sigma: Float[Tensor, "b *m"]
    ) -> Float[Tensor, "b l v"]:
        """(alpha / sigma^2) x_t; all e_w are of one length."""
        return alpha / sigma.square() * x_t

    def nearest(self, x: Float[Tensor, "b l v"], metric: Metric = "l2") -> Int[Tensor, "b l"]:
        """argmax_w x_w, in distance and in angle alike: |x - e_w|^2 = |x|^2 - 2 x_w + 1."""
        return x.argmax(-1)


@register(
    "one_hot",
    description="one coordinate for each token; a clean state is a corner of the simplex, a mean a distribution",
    paper="FLM (arXiv 2602.16813)",
)
class OneHotSpec(Space):
    """A :class:`OneHotSpace`: x0 = e_w, of width V. It has no settings and learns nothing."""

    def build(self, vocab_size: int) -> OneHotSpace:
        """A space for that many tokens."""
        return OneHotSpace(vocab_size)
