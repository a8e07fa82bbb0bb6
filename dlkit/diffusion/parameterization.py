"""What a network can predict, and how each turns into the others.

The hub is the pair (x0, eps): whatever is predicted is turned into both, and whatever is asked for is made of them.
With x = alpha x0 + sigma eps, n = alpha^2 + sigma^2, D = alpha sigma' - sigma alpha', and ' for d/dt:

    y           is                          x0 from x and y              eps from x and y
    x0          the clean state             y                            (x - alpha y) / sigma
    eps         the noise                   (x - sigma y) / alpha        y
    v           alpha eps - sigma x0        (alpha x - sigma y) / n      (sigma x + alpha y) / n
    score       -eps / sigma                (x + sigma^2 y) / alpha      -sigma y
    velocity    alpha' x0 + sigma' eps      (sigma' x - sigma y) / D     (alpha y - alpha' x) / D
    logits      over the tokens             softmax(y) E                 as from that x0
    prior_logits  those without x           softmax(y + log p(x | w)) E  as from that x0

Nothing here takes alpha^2 + sigma^2 for 1, and nothing is divided but by what has to be: by sigma where only x0 is
known, by alpha where only the noise is, and by n or D, which do not vanish with them, for v and velocity. v is that of
Salimans & Ho 2022 (arXiv 2202.00512, section 4); velocity is dx/dt of the probability-flow ODE, what flow matching
learns (Lipman et al. 2022, arXiv 2210.02747). Predictions are means given x, and all of this is linear in them: it
holds for means as it does for a single x0 and eps.

Logits are turned into states by the space (``TokenSpace.mean``). With prior logits the network says how likely each
token w is given the rest of the text, and its own state's likelihood log N(x; alpha e_w, sigma^2) is added, which is
known exactly (``TokenSpace.evidence``; Gulrajani & Hashimoto 2023, Plaid, arXiv 2305.18619).

At an end of the schedule a part can be lost, and counts as 0 so that nothing becomes NaN: eps and score where
sigma = 0 and only x0 is known, x0 where alpha = 0 and only the noise is, and the share in a velocity of what has an
infinite rate (sigma' at t = 0 of a variance-preserving schedule).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Target = Literal["x0", "eps", "v", "score", "velocity"]
Source = Literal["x0", "eps", "v", "score", "velocity", "logits", "prior_logits"]
TARGETS: tuple[Target, ...] = ("x0", "eps", "v", "score", "velocity")
LOGITS: tuple[Source, ...] = ("logits", "prior_logits")
SOURCES: tuple[Source, ...] = (*TARGETS, *LOGITS)

Coefficient = Float[Tensor, " *b"]


@dataclass(frozen=True)
class Level:
    """The coefficients of some states, and the way from each parameterisation to the hub and back.

    Attributes:
        alpha, sigma: float64, as the schedule gives them.
        slopes: (alpha', sigma'), asked for only where there is a velocity.
        shaped: gives a coefficient the state's type, and the shape to multiply it.
    """

    alpha: Coefficient
    sigma: Coefficient
    slopes: Callable[[], tuple[Coefficient, Coefficient]]
    shaped: Callable[[Coefficient], Tensor]

    def pair(self, value: Tensor, source: Target, x: Tensor) -> tuple[Tensor, Tensor]:
        """x0 and eps of a value."""
        alpha, sigma = self.shaped(self.alpha), self.shaped(self.sigma)
        if source == "x0":
            return value, (x - alpha * value) / _divisor(sigma)
        if source in ("eps", "score"):
            eps = value if source == "eps" else -sigma * value
            return (x - sigma * eps) / _divisor(alpha), eps
        of_x0, of_eps, unit = self._row(source)
        size = _divisor(self.alpha * of_eps - self.sigma * of_x0)
        x0 = self.shaped(of_eps / size) * x - self.shaped(self.sigma * unit / size) * value
        eps = self.shaped(self.alpha * unit / size) * value - self.shaped(of_x0 / size) * x
        return x0, eps

    def value(self, x0: Tensor, eps: Tensor, to: Target) -> Tensor:
        """What x0 and eps are in another parameterisation."""
        if to == "x0":
            return x0
        if to == "eps":
            return eps
        if to == "score":
            return -eps / _divisor(self.shaped(self.sigma))
        if to == "v":
            return self.shaped(self.alpha) * eps - self.shaped(self.sigma) * x0
        on_x0, on_eps = (self.shaped(_finite(slope)) for slope in self.slopes())
        return on_x0 * x0 + on_eps * eps

    def share_of_x0(self, kind: Target) -> Tensor:
        """How much of x0 is in a v or a velocity; 0 for the others, x0 itself among them.

        So much of m they hold more where x0 is counted from 0 than where it is counted from m.
        """
        if kind == "velocity":
            return self.shaped(_finite(self.slopes()[0]))
        return self.shaped(-self.sigma if kind == "v" else torch.zeros_like(self.sigma))

    def _row(self, kind: Target) -> tuple[Coefficient, Coefficient, Coefficient]:
        """(p, q, unit): unit times a v or a velocity is p x0 + q eps, and p and q are finite.

        The larger rate of a velocity becomes 1: infinite rates are limits then, and nothing else. Without any rates x
        alone is left, which is then taken for alpha x0.
        """
        if kind == "v":
            return -self.sigma, self.alpha, torch.ones_like(self.alpha)
        slopes = d_alpha, d_sigma = self.slopes()
        largest = torch.maximum(*(slope.abs() for slope in slopes))
        unit = 1.0 / _divisor(largest)
        p = torch.where(d_alpha.isinf(), d_alpha.sign(), d_alpha * unit)
        q = torch.where(d_sigma.isinf(), d_sigma.sign(), d_sigma * unit)
        return p, torch.where(largest == 0.0, 1.0, q), unit


def _divisor(coefficient: Tensor) -> Tensor:
    """The coefficient, but infinity for 0: what would be divided by it is lost, and counts as 0."""
    return torch.where(coefficient == 0.0, torch.inf, coefficient)


def _finite(coefficient: Tensor) -> Tensor:
    """The coefficient, but 0 where it is infinite."""
    return torch.where(coefficient.isinf(), 0.0, coefficient)
