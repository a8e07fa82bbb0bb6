"""What the samplers of a student share."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.denoiser import Denoiser
from dlkit.diffusion.codes import one_of
from dlkit.samplers._base import Noise, Sampler


class StudentSampler(Sampler):
    """A sampler that begins where a student was taught to.

    Attributes:
        t_init: the time the student is first asked at; index 1490 of 2000 is .7455.
        codes: how many noises it was taught, see :func:`dlkit.diffusion.codes.one_of`; it can write that many texts
            for a source. None is any noise.
        codes_seed: of the codes.
    """

    t_init: float = Field(default=0.7455, gt=0.0, le=1.0)
    codes: int | None = Field(default=None, ge=1, le=2**24, strict=True)
    codes_seed: int = 0

    @property
    def starts(self) -> int | None:
        return self.codes

    def begin(self, denoiser: Denoiser, noise: Noise) -> Float[Tensor, "b l d"]:
        """A draw of the prior at t_init, or one of the codes in its place."""
        return denoiser.prior(one_of(noise(0), self.codes, self.codes_seed), self.t_init)
