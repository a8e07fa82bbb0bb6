"""A forward process."""

from dlkit import schedules
from dlkit.diffusion.processes import register
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.part import part_of


@register("starter", description="the Gaussian process with the cosine schedule unless told otherwise")
class Starter(GaussianProcess):
    """x_t = alpha(t) x0 + sigma(t) eps. Override q_sample, posterior, ddim and convert together: they must agree.

    Attributes:
        schedule: gives alpha and sigma.
    """

    schedule: part_of(schedules.registry) = "cosine"  # type: ignore[valid-type]
