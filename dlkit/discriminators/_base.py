"""What a discriminator head is."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dlkit.part import Part


class Head(Part):
    """Settings of a head: a module ``forward(features [b l h], mask [b l]) -> logits [b] or [b l]``.

    The mask is True at generated positions. A head gives one logit for each sample, or one for each position; those at
    given positions are left out of every loss. What stands at given positions must not change the others.
    """

    learns: ClassVar[bool] = True  # False: it has no parameters, so the network of the features must learn

    @abstractmethod
    def build(self, feature_dim: int) -> nn.Module:
        """A head for features of that width."""


class WithCondition(nn.Module):
    """Gives a head [h_l, mean of h over given positions] in place of h_l; zeros where nothing is given."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b *l"]:
        given = masked_mean(features, ~mask)[:, None].expand_as(features)
        return self.head(torch.cat((features, given), -1), mask)


def masked_mean(features: Float[Tensor, "b l h"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b h"]:
    """Mean over masked positions; zeros where there are none."""
    keep = mask[..., None]
    return (features * keep).sum(1) / keep.sum(1).clamp_min(1)
