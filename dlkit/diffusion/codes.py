"""A finite prior: noise that is one of a fixed number of draws."""

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit.randomness import Stream


def one_of(z: Float[Tensor, "b l d"], codes: int | None, seed: int) -> Float[Tensor, "b l d"]:
    """The code c_m in place of the noise z, m uniform on 0 ... codes - 1; z itself without codes.

    c_0, c_1, ... are draws of N(0, I) that depend on ``seed`` and the shape alone. The first number of z chooses:
    m = floor(codes Phi(z_00)), so whatever fixes z fixes m.

    Args:
        z: standard normals.
        codes: how many there are; None for all noise that there is.
        seed: of the codes.
    """
    if codes is None:
        return z
    share = torch.special.ndtr(z[:, 0, 0].double())
    m = (share * codes).long().clamp(max=codes - 1)
    return Stream(seed, "codes").normal(m, *z.shape[1:]).to(z.dtype)
