"""What a network can predict, and how each turns into the others."""

from typing import Literal

Target = Literal["x0", "eps", "score"]
TARGETS: tuple[Target, ...] = ("x0", "eps", "score")
