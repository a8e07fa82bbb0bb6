"""FLM's schedule: time is how many tokens one could guess."""

import math
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from dlkit.errors import UserError
from dlkit.schedules import register
from dlkit.schedules._base import ContinuousSchedule, Times
from dlkit.schedules._device import Constant

NODES, ROWS, SLOPE, NEWTON = 100, 10_000, 1e-10, 2
_LEAST = 1e-4  # of 1 - c in a quotient: what has 10^4 times as much text as noise in it is clean


class Accuracy:
    """tau(c) for K tokens, its slope, and the way back.

    With r = c / (1 - c) and z ~ N(0, 1),

        tau(c) = K / (K - 1) (E[Phi(z + r)^(K - 1)] - 1 / K) + 10^-10 (c - 1), cut off at 0 and 1.

    The mean is that of Gauss and Hermite's rule with 100 nodes, as in the original. For large K it has not converged
    (tau is off by up to 1e-4), but it is a rising function of c all the same, as each of its terms is.

    The inverse is taken from a table of 10,000 rows and improved by two steps of Newton's, which leave rounding alone.
    What lies in front of the first row where tau is not 0, and the whole of tau(0) if that is not 0, goes to c = 0.
    """

    def __init__(self, vocab_size: int) -> None:
        x, w = np.polynomial.hermite.hermgauss(NODES)
        kept = w > 0.0  # the outermost weights may be too small for a number
        self.others, self._scale = vocab_size - 1, vocab_size / (vocab_size - 1)
        self._z = Constant(torch.tensor(math.sqrt(2.0) * x[kept], dtype=torch.float64))
        self._w = Constant(torch.tensor(w[kept] / math.sqrt(math.pi), dtype=torch.float64))
        c = torch.linspace(0.0, 1.0, ROWS, dtype=torch.float64)
        tau = torch.cat([self.exact(rows) for rows in c.split(1000)])
        self._c, self._tau = Constant(c), Constant(tau)

    def tau(self, c: Times) -> Times:
        return self.exact(c).clamp(0.0, 1.0)

    def exact(self, c: Times) -> Times:
        """tau before it is cut off."""
        return self._and_slope(c)[0]

    def slope(self, c: Times) -> Times:
        """d tau / dc."""
        return self._and_slope(c)[1]

    def c(self, tau: Times) -> Times:
        """The inverse, with its derivative 1 / slope for autograd."""
        sought = tau.detach()
        table, rows = self._tau.on(tau.device), self._c.on(tau.device)
        above = torch.searchsorted(table, sought.contiguous()).clamp(1, ROWS - 1)
        low, high = rows[above - 1], rows[above]
        share = (sought - table[above - 1]) / (table[above] - table[above - 1])
        c = low + share.clamp(0.0, 1.0) * (high - low)
        for _ in range(NEWTON):
            found, slope = self._and_slope(c)
            c = (c + (sought - found) / slope).clamp(low, high)
        c = torch.where(sought <= 0.0, 0.0, torch.where(sought >= 1.0, 1.0, c))
        return c + (tau - sought) / self.slope(c)

    def _and_slope(self, c: Times) -> tuple[Times, Times]:
        """tau before it is cut off, and d tau / dc, from the same log Phi(z + r)."""
        argument = (c / _noise(c))[..., None] + self._z.on(c.device)
        log_phi, w = torch.special.log_ndtr(argument), self._w.on(c.device)
        mean = (torch.exp(self.others * log_phi) * w).sum(-1)
        density = (torch.exp((self.others - 1) * log_phi - 0.5 * argument.square()) * w).sum(-1)
        slope = density * (self.others / math.sqrt(2.0 * math.pi)) / _noise(c).square()
        return (
            self._scale * (mean - 1.0 / (self.others + 1)) + SLOPE * (c - 1.0),
            self._scale * slope + SLOPE,
        )


def _noise(c: Times) -> Times:
    return (1.0 - c).clamp_min(_LEAST)


@lru_cache(maxsize=8)
def accuracy(vocab_size: int) -> Accuracy:
    """The map for so many tokens; they are made once."""
    return Accuracy(vocab_size)


@register(
    "token_accuracy",
    description="a straight line from text to noise; time is the share of tokens that are not to be guessed any more",
    paper="FLM (arXiv 2602.16813)",
)
class TokenAccuracySchedule(ContinuousSchedule):
    """alpha = c, sigma = 1 - c, with tau(c) = 1 - t: the share of tokens that the noisiest guess gets right.

    Of K one-hot tokens with noise, x = c e_w + (1 - c) eps, the largest coordinate is that of w with a probability,
    which is counted from chance on: tau is 0 where only one of K guesses is right, and 1 where all are
    (:class:`Accuracy` has the formula). Nearly all of that happens within a narrow range of c, .70 to .88 for 50,000
    tokens; equal steps of t are equal steps of what can be known. The network is fed tau, between 0 and 1.

    d alpha / dt is large near t = 0 and t = 1, where much noise more or less changes no guess.

    Attributes:
        vocab_size: K; None is the number of tokens of the texts, which is known when a teacher is fitted or read.
    """

    trial: ClassVar[dict[str, Any]] = {"vocab_size": 50}

    vocab_size: int | None = Field(default=None, ge=2, le=10_000_000)

    def model_post_init(self, context: Any, /) -> None:
        if self.vocab_size is not None:
            _ = self._accuracy  # made now, because a compiled graph cannot make it

    @cached_property
    def _accuracy(self) -> Accuracy:
        if self.vocab_size is None:
            raise UserError("the schedule 'token_accuracy' counts tokens; give it vocab_size, as a fit does by itself")
        return accuracy(self.vocab_size)

    def for_vocabulary(self, vocab_size: int) -> "TokenAccuracySchedule":
        """With so many tokens, unless it was told a number."""
        return self if self.vocab_size is not None else self.replace(vocab_size=vocab_size)

    def tau(self, c: Times) -> Times:
        """Share of tokens that can be told, beyond chance, where so much of the state is text."""
        return self._accuracy.tau(c.double())

    def alpha(self, t: Times) -> Times:
        """c(1 - t)."""
        return self._accuracy.c(1.0 - t.double())

    def sigma(self, t: Times) -> Times:
        """1 - c."""
        return 1.0 - self.alpha(t)

    def d_alpha(self, t: Times) -> Times:
        """-1 / (d tau / dc)."""
        return -1.0 / self._accuracy.slope(self.alpha(t))

    def d_sigma(self, t: Times) -> Times:
        return -self.d_alpha(t)

    def inverse(self, log_snr: Times) -> Times:
        """1 - tau(c), c = sigmoid(log SNR / 2)."""
        return 1.0 - self.tau(torch.sigmoid(0.5 * log_snr.double()))

    def network_time(self, t: Times) -> Times:
        """tau = 1 - t."""
        return 1.0 - t.double()
