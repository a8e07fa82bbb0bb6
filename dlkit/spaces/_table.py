"""Spaces whose states are rows of a table."""

from abc import abstractmethod

from jaxtyping import Float, Int
from torch import Tensor

from dlkit.kernels.nearest_token import Metric, nearest_token
from dlkit.spaces._base import TokenSpace


class TableSpace(TokenSpace):
    """A space with a table E of V states of width d."""

    @property
    @abstractmethod
    def table(self) -> Float[Tensor, "v d"]:
        """The state of every token."""

    @property
    def dim(self) -> int:
        return self.table.shape[1]

    @property
    def vocab_size(self) -> int:
        return self.table.shape[0]

    @property
    def like(self) -> Tensor:
        return self.table

    def mean(self, logits: Float[Tensor, "b l v"]) -> Float[Tensor, "b l d"]:
        return logits.softmax(-1) @ self.table.to(logits.dtype)

    def evidence(
        self, x_t: Float[Tensor, "b l d"], alpha: Float[Tensor, "b *m"], sigma: Float[Tensor, "b *m"]
    ) -> Float[Tensor, "b l v"]:
        """(alpha / sigma^2) x_t . e_w - (alpha^2 / 2 sigma^2) |e_w|^2."""
        table = self.table.to(x_t.dtype)
        slope = alpha / sigma.square()
        return (slope * x_t) @ table.T - 0.5 * alpha * slope * table.square().sum(1)

    def nearest(self, x: Float[Tensor, "b l d"], metric: Metric = "l2") -> Int[Tensor, "b l"]:
        return nearest_token(x, self.table, metric=metric)
