"""The Gaussian forward process."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dlkit import schedules
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.parameterization import TARGETS, Target
from dlkit.diffusion.processes import register
from dlkit.part import Part, part_of
from dlkit.schedules._base import Schedule


@dataclass(frozen=True)
class Posterior:
    """q(x_s | x_t, x0), a Gaussian.

    Attributes:
        mean: its mean.
        std: its standard deviation, sigma_{t|s} sigma_s / sigma_t, shaped to multiply the mean.
        std_large: sigma_{t|s}, the standard deviation of q(x_t | x_s) up to scale; DDPM's "fixed large" choice.
    """

    mean: Float[Tensor, "b *n"]
    std: Float[Tensor, "b *m"]
    std_large: Float[Tensor, "b *m"]


@register(
    "gaussian",
    description="x_t = alpha x0 + sigma eps, with given positions held fixed",
    paper="Ho et al. 2020 (arXiv 2006.11239); Kingma et al. 2021 (2107.00630); Gong et al. 2023 (2210.08933)",
)
class GaussianProcess(Part):
    """x_t = alpha(t) x0 + sigma(t) eps, eps ~ N(0, I).

    Times have shape [b] and are broadcast over the rest of the state. Coefficients are computed in float64 and rounded
    to the state's dtype once.

    Attributes:
        schedule: gives alpha and sigma.
    """

    schedule: part_of(schedules.registry) = "sqrt"  # type: ignore[valid-type]
    model_config = {"validate_default": True}

    @property
    def noise_schedule(self) -> Schedule:
        """The schedule with its type."""
        return self.schedule  # type: ignore[return-value]

    @property
    def sigma_0(self) -> float:
        """sigma at the lowest noisy time: DiffuSeq adds this much noise to its embeddings in training."""
        t_min = torch.tensor(self.noise_schedule.t_min, dtype=torch.float64)
        return float(self.noise_schedule.sigma(t_min))

    def alpha(self, t: Float[Tensor, " b"], like: Float[Tensor, "b *n"]) -> Float[Tensor, "b *m"]:
        """alpha(t), shaped to multiply ``like``."""
        return _broadcast(self.noise_schedule.alpha(t), like)

    def sigma(self, t: Float[Tensor, " b"], like: Float[Tensor, "b *n"]) -> Float[Tensor, "b *m"]:
        """sigma(t), shaped to multiply ``like``."""
        return _broadcast(self.noise_schedule.sigma(t), like)

    def q_sample(
        self,
        x0: Float[Tensor, "b *n"],
        t: Float[Tensor, " b"],
        eps: Float[Tensor, "b *n"],
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *n"]:
        """alpha x0 + sigma eps; with a condition its given positions stay as they are in the anchor."""
        x_t = self.alpha(t, x0) * x0 + self.sigma(t, x0) * eps
        return x_t if cond is None else cond.apply(x_t)

    def posterior(
        self, x_t: Float[Tensor, "b *n"], x0: Float[Tensor, "b *n"], t: Float[Tensor, " b"], s: Float[Tensor, " b"]
    ) -> Posterior:
        """q(x_s | x_t, x0) for any 0 <= s < t <= 1.

        With a = alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2 (the variance of q(x_t | x_s)):
        mean = (a sigma_s^2 x_t + alpha_s v x0) / sigma_t^2, variance = v sigma_s^2 / sigma_t^2
        (Kingma et al. 2021, eq. 30-32). At s = 0 it is a point mass at x0.
        """
        schedule = self.noise_schedule
        alpha_s, var_s, var_t = schedule.alpha(s), schedule.sigma(s).square(), schedule.sigma(t).square()
        ratio = schedule.alpha(t) / alpha_s
        step_var = (var_t - ratio.square() * var_s).clamp_min(0.0)
        mean = _broadcast(ratio * var_s / var_t, x_t) * x_t + _broadcast(alpha_s * step_var / var_t, x_t) * x0
        std = _broadcast((step_var * var_s / var_t).sqrt(), x_t)
        return Posterior(mean, std, _broadcast(step_var.sqrt(), x_t))

    def ddim(
        self, x_t: Float[Tensor, "b *n"], x0: Float[Tensor, "b *n"], t: Float[Tensor, " b"], s: Float[Tensor, " b"]
    ) -> Float[Tensor, "b *n"]:
        """alpha_s x0 + sigma_s eps with the eps that x0 implies at t (Song et al. 2021, arXiv 2010.02502, eq. 12)."""
        eps = self.convert(x0, x_t, t, "x0", "eps")
        return self.alpha(s, x0) * x0 + self.sigma(s, x0) * eps

    def convert(
        self,
        value: Float[Tensor, "b *n"],
        x_t: Float[Tensor, "b *n"],
        t: Float[Tensor, " b"],
        source: Target,
        to: Target,
    ) -> Float[Tensor, "b *n"]:
        """From one prediction to another at (x_t, t), by way of x0.

        Tweedie: E[x0 | x_t] = (x_t + sigma^2 score) / alpha (DLM-One, section 2), and
        eps = (x_t - alpha x0) / sigma = -sigma score.

        Raises:
            ValueError: ``source`` or ``to`` is not one of x0, eps, score.
        """
        if source not in TARGETS or to not in TARGETS:
            raise ValueError(f"cannot convert {source!r} to {to!r}; known: {', '.join(TARGETS)}")
        if source == to:
            return value
        alpha, sigma = self.alpha(t, x_t), self.sigma(t, x_t)
        if source == "x0":
            eps = (x_t - alpha * value) / sigma
        else:
            eps = value if source == "eps" else -sigma * value
        if to == "x0":
            return (x_t - sigma * eps) / alpha
        return eps if to == "eps" else -eps / sigma


def _broadcast(coefficient: Float[Tensor, " b"], like: Float[Tensor, "b *n"]) -> Float[Tensor, "b *m"]:
    """[b] -> [b, 1, ...] in the dtype of ``like``."""
    return coefficient.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))
