"""How fast rotary positions turn."""

import torch
from jaxtyping import Float
from torch import Tensor


def rates(width: int) -> Float[Tensor, " c"]:
    """1 / 10000^(c / half) for c = 0 ... half - 1, radians for each position, in a head of ``width`` = 2 half channels.

    Checkpoints hold these numbers as they are rounded in this form; as 10000^(-c / half) some differ by the last bit.
    """
    return 1.0 / 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
