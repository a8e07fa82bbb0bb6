"""A finite prior: noise that is one of a fixed number of draws."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlkit.randomness import Stream


def one_of(z: Float[Tensor, "b l d"], codes: int | None, seed: int) -> Float[Tensor, "b l d"]:
    """The code c_m in place of the noise z, m uniform on 0 ... codes - 1; z itself without codes.

    c_0, c_1, ... are draws of N(0, I) that depend on ``seed`` and the shape alone. The first number of z chooses:
    m = floor(codes Phi(z_00)), so whatever fixes z fixes m. :func:`choosing` is the way back.

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


def choosing(z: Float[Tensor, "b l d"], m: Int[Tensor, " b"], codes: int) -> Float[Tensor, "b l d"]:
    """z with another first number, Phi^-1((m + 1/2) / codes), by which :func:`one_of` takes code m.

    Args:
        z: standard normals.
        m: from 0 to codes - 1.
        codes: how many there are.
    """
    z = z.clone()
    z[:, 0, 0] = torch.special.ndtri((m.double() + 0.5) / codes).to(z.dtype)
    return z


def taken_in_turn(owners: Int[Tensor, " n"], count: int, codes: int, stream: Stream) -> Int[Tensor, "n {count}"]:
    """m of ``count`` samples for each owner, drawn without replacement: m_k = (m_0 + k) mod codes, m_0 uniform.

    The codes are independent draws, so neighbours are as different as any two. Each m_k alone is uniform.

    Args:
        owners: numbers that m_0 depends on.
        count: samples; from ``codes`` on they begin again.
        codes: how many there are.
        stream: of m_0.
    """
    first = stream.integers(owners, codes)
    return (first[:, None] + torch.arange(count, device=first.device)) % codes
