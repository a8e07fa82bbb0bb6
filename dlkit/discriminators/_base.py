"""What a discriminator head is."""

from abc import abstractmethod

from torch import nn

from dlkit.part import Part


class Head(Part):
    """Settings of a head: a module ``forward(features [b l h], mask [b l]) -> logit [b]``."""

    @abstractmethod
    def build(self, feature_dim: int) -> nn.Module:
        """A head for features of that width."""
