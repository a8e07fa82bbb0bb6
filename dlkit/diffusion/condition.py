"""What a network is told beside the noise: the given positions and which positions are free."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """A source held fixed inside the state (DiffuSeq's partial noising).

    Attributes:
        anchor: states of the given positions; what stands at the free ones does not matter. None where all are free.
        mask: True where the text is generated (target and padding), False where it is given.
    """

    anchor: Float[Tensor, "b l d"] | None
    mask: Bool[Tensor, "b l"]

    def apply(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """``x`` with its given positions replaced by the anchor."""
        return x if self.anchor is None else torch.where(self.mask[..., None], x, self.anchor.to(x.dtype))

    def dropped(self, null: Float[Tensor, " d"], which: Bool[Tensor, " b"] | None = None) -> "Condition":
        """The condition without its source: every given position of the samples ``which``, or of all, holds ``null``.

        Their number stays: it is where the target begins.
        """
        if self.anchor is None:
            return self
        anchor = null.to(self.anchor.dtype).expand_as(self.anchor)
        if which is not None:
            anchor = torch.where(which[:, None, None], anchor, self.anchor)
        return Condition(anchor, self.mask)
