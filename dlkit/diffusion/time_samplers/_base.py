"""What a time sampler is."""

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor

from dlkit.part import Part
from dlkit.schedules._base import Schedule


class TimeSampler(Part):
    """The distribution of the times a network is trained at."""

    @abstractmethod
    def sample(self, u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
        """Map uniforms on (0, 1) to times."""
