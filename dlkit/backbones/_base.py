"""What a backbone is."""

from abc import abstractmethod

from torch import nn

from dlkit.part import Part


class Backbone(Part):
    """Settings of a network: a module ``forward(x [b l d], time [b], tap) -> (x0 [b l d], features [b l h] or None)``.

    ``tap`` is the number of the layer whose hidden states are the features, negative ones counted from the end, or None
    where no features are wanted. The module has ``feature_dim``, their width h.
    """

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """A network for states of width ``dim``."""
