"""What a space is."""

from abc import abstractmethod

from torch import nn

from dlkit.part import Part


class Space(Part):
    """Settings of a module between tokens and states, which must have all that ``EmbeddingSpace`` has."""

    @abstractmethod
    def build(self, vocab_size: int) -> nn.Module:
        """A space for that many tokens."""
