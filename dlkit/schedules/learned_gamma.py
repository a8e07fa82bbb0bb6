"""Plaid's learned noise schedule."""

from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.errors import UserError
from dlkit.schedules import register
from dlkit.schedules._base import ContinuousSchedule, VariancePreserving

HALVINGS = 60
LARGEST = 30.0  # size of gamma, up to which alpha, sigma and the SNR have digits in float32 too
FLATTEST = 1e-8  # rise of h, as a share of the most that it could rise, below which gamma has few digits left

Times = Float[Tensor, "..."]


class MonotoneGamma(nn.Module):
    """gamma(u) = gamma_0 + (gamma_1 - gamma_0) (h(u) - h(0)) / (h(1) - h(0)), u in [0, 1].

    h(u) = softplus(W2) tanh(softplus(W1) (u - 1/2) + b1) / 100 rises, since all that u is multiplied by is positive.
    The names of the parameters are the original's, which keeps the bounds in a module of their own.

    Args:
        hidden: units n of h.
        gamma_0, gamma_1: where the bounds begin.
    """

    def __init__(self, hidden: int, gamma_0: float, gamma_1: float) -> None:
        super().__init__()
        self.W1 = nn.Parameter(torch.randn(hidden, 1))
        self.b1 = nn.Parameter(torch.randn(hidden))
        self.W2 = nn.Parameter(torch.randn(1, hidden))
        self.gamma_0 = nn.Parameter(torch.tensor(gamma_0))
        self.gamma_1 = nn.Parameter(torch.tensor(gamma_1))
        self.register_load_state_dict_post_hook(lambda module, _: module.check())  # type: ignore[operator]

    @property
    def bounds(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """gamma_0 and gamma_1."""
        return self.gamma_0.double(), self.gamma_1.double()

    def rise(self, u: Times) -> Times:
        """(h(u) - h(0)) / (h(1) - h(0)): from 0 to 1."""
        zero, one = u.new_zeros(()), u.new_ones(())
        low = self._h(zero)
        return (self._h(u) - low) / (self._h(one) - low)

    def slope(self, u: Times) -> Times:
        """d rise / du."""
        inner, w1, w2 = self._inner(u), *self._positive()
        slope = ((1.0 - inner.square()) * w1 * w2).sum(-1)
        return slope / (self._h(u.new_ones(())) - self._h(u.new_zeros(())))

    def _h(self, u: Times) -> Times:
        return (self._inner(u) * self._positive()[1]).sum(-1)

    def _inner(self, u: Times) -> Float[Tensor, "... n"]:
        return torch.tanh((u.to(self.b1.device)[..., None] - 0.5) * self._positive()[0] + self.b1.double())

    def _positive(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        return F.softplus(self.W1.double())[:, 0], 0.01 * F.softplus(self.W2.double())[0]

    def check(self) -> None:
        """Look whether this is a schedule; the host waits for the device.

        Raises:
            UserError: the bounds have crossed or are so far out that the SNR is no number, or h is flat, so that gamma
                is none.
        """
        with torch.no_grad():
            gamma_0, gamma_1 = (float(bound) for bound in self.bounds)
            ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=self.b1.device)
            low, high = self._h(ends).tolist()
            most = 2.0 * float(self._positive()[1].sum())
        if not gamma_0 < gamma_1:
            raise UserError(
                f"the learned schedule has gamma_0={gamma_0:g} and gamma_1={gamma_1:g}, so noise would not grow with "
                "time; take an earlier checkpoint or a lower learning rate"
            )
        if max(-gamma_0, gamma_1) > LARGEST:
            raise UserError(
                f"the learned schedule has gamma_0={gamma_0:g} and gamma_1={gamma_1:g}, outside of -{LARGEST:g} to "
                f"{LARGEST:g}, where noise levels are no numbers; take an earlier checkpoint or a lower learning rate"
            )
        if not FLATTEST * most < high - low < float("inf"):
            raise UserError(
                f"the learned schedule is saturated: h goes from {low:g} to {high:g}, so gamma(t) is no number; "
                "take an earlier checkpoint or a lower learning rate"
            )


@register(
    "learned_gamma",
    description="log SNR falls along a monotone network that is trained with the model",
    paper="Gulrajani & Hashimoto 2023, Plaid (arXiv 2305.18619); Kingma et al. 2021 (2107.00630), section 4",
)
class LearnedGamma(VariancePreserving, ContinuousSchedule):
    """alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma): gamma is minus the log SNR, and what the network is fed.

    The original's time u in [0, 1] begins at the noise gamma_0. It is t = t_min + (1 - t_min) u here, and below t_min

        gamma(t) = gamma_0 - k (t_min / t - 1),   k = t_min gamma'(t_min),

    which goes to clean text at t = 0 and has the same slope at t_min. gamma(u) is that of the weights
    (:class:`MonotoneGamma`); a schedule without weights has the straight line from gamma_0 to gamma_1.

    Attributes:
        gamma_0, gamma_1: minus the log SNR at t_min and at t = 1, before anything is learned.
        hidden: units of the network.
    """

    gamma_0: float = Field(default=-3.0, ge=-LARGEST, le=LARGEST)
    gamma_1: float = Field(default=6.0, ge=-LARGEST, le=LARGEST)
    hidden: int = Field(default=1024, ge=1, le=65_536)

    @model_validator(mode="after")
    def _noise_grows(self) -> Self:
        if self.gamma_0 >= self.gamma_1:
            raise ValueError(f"gamma_0={self.gamma_0:g} is not below gamma_1={self.gamma_1:g}; noise grows with gamma")
        return self

    def model_post_init(self, context: Any, /) -> None:
        _ = self.held  # made now, because a compiled graph cannot make it

    @cached_property
    def held(self) -> MonotoneGamma | None:
        """The weights, if it holds some."""
        return None

    def weights(self) -> MonotoneGamma:
        return self.held or MonotoneGamma(self.hidden, self.gamma_0, self.gamma_1)

    def holding(self, weights: nn.Module) -> Self:
        bound = self.model_copy()
        object.__setattr__(bound, "held", weights)  # as in GaussianProcess.around
        return bound

    def check(self) -> None:
        if self.held is not None:
            self.held.check()

    def gamma(self, t: Times) -> Times:
        """Minus the log SNR; -inf at t = 0."""
        low, high = self._bounds
        below = self._knee * ((self.t_min / t.double()).clamp_min(1.0) - 1.0)
        return low + (high - low) * self._rise(self.share_of_noisy(t)) - below

    def d_gamma(self, t: Times) -> Times:
        """d gamma / dt."""
        low, high = self._bounds
        t = t.double()
        above = (high - low) * self._slope(self.share_of_noisy(t)) / (1.0 - self.t_min)
        below = self._knee * self.t_min / t.clamp_min(TINY).square()
        return torch.where(t < self.t_min, below, above)

    def alpha_bar(self, t: Times) -> Times:
        """sigmoid(-gamma)."""
        return torch.sigmoid(-self.gamma(t))

    def alpha(self, t: Times) -> Times:
        """sqrt(sigmoid(-gamma)), by its logarithm: near t = 0 the slope of a sigmoid has no digits."""
        return torch.exp(0.5 * F.logsigmoid(-self.gamma(t)))

    def d_alpha_bar(self, t: Times) -> Times:
        gamma = self.gamma(t)
        return -torch.sigmoid(-gamma) * torch.sigmoid(gamma) * self.d_gamma(t)

    def sigma(self, t: Times) -> Times:
        """sqrt(sigmoid(gamma)), which keeps its digits where 1 - alpha^2 loses them."""
        return torch.exp(0.5 * F.logsigmoid(self.gamma(t)))

    def d_alpha(self, t: Times) -> Times:
        """-alpha sigma^2 gamma' / 2."""
        return -0.5 * self.alpha(t) * self.sigma(t).square() * self.d_gamma(t)

    def d_sigma(self, t: Times) -> Times:
        """alpha^2 sigma gamma' / 2; 0 at t = 0."""
        return 0.5 * self.alpha_bar(t) * self.sigma(t) * self.d_gamma(t)

    def log_snr(self, t: Times) -> Times:
        """-gamma."""
        return -self.gamma(t)

    def d_log_snr(self, t: Times) -> Times:
        """-gamma'."""
        return -self.d_gamma(t)

    def inverse(self, log_snr: Times) -> Times:
        """By halving [0, 1] above t_min, and in closed form below it."""
        low, high = self._bounds
        gamma = -log_snr.double()
        share = (gamma - low) / (high - low)
        u = share.clamp(0.0, 1.0) if self.held is None else self._halved(share)
        below = self._knee / (self._knee + (low - gamma).clamp_min(0.0))
        return torch.where(gamma < low, self.t_min * below, self.t_min + (1.0 - self.t_min) * u)

    def network_time(self, t: Times) -> Times:
        """gamma."""
        return self.gamma(t)

    def _halved(self, share: Times) -> Times:
        """u with rise(u) = share, to within 2^-60; the nearest end where there is none."""
        u, width = torch.zeros_like(share), 1.0
        for _ in range(HALVINGS):
            width *= 0.5
            u = torch.where(self._rise(u + width) < share, u + width, u)
        return torch.where(share >= 1.0, 1.0, u)

    def share_of_noisy(self, t: Times) -> Times:
        """The original's time."""
        return ((t.double() - self.t_min) / (1.0 - self.t_min)).clamp(0.0, 1.0)

    @property
    def _bounds(self) -> tuple[float | Tensor, float | Tensor]:
        return (self.gamma_0, self.gamma_1) if self.held is None else self.held.bounds

    def _rise(self, u: Times) -> Times:
        return u if self.held is None else self.held.rise(u)

    def _slope(self, u: Times) -> Times:
        return torch.ones_like(u) if self.held is None else self.held.slope(u)

    @property
    def _knee(self) -> float | Tensor:
        """k: how much gamma changes from t_min on, were its slope that at t_min for as long as t_min is."""
        low, high = self._bounds
        share = self.t_min / (1.0 - self.t_min)
        if self.held is None:
            return (high - low) * share
        return (high - low) * share * self.held.slope(self.held.b1.new_zeros((), dtype=torch.float64))


TINY = 1e-150  # whose square is no 0
