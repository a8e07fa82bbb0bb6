"""Regression of the student to what the teacher makes of the student's own texts."""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.objectives import register
from dlkit.objectives._base import ORIGIN, Needs, Noised, Objective, Roles, Terms
from dlkit.objectives._terms import fitted


@register(
    "refine",
    description="regression to the student's own texts, noised a little and denoised by the teacher in a few steps",
    paper="this project; Kohler et al. 2024, Imagine Flash (arXiv 2405.05224), regress on such targets at all times",
)
class Refine(Objective):
    """mean |G(z) - x|^2, x the end of the teacher's DDIM from alpha G(z) + sigma n; no gradient through x.

    Noise and teacher together leave the teacher's distribution as it is, so texts of that distribution only turn into
    others as good. One that is not, such as one between two paraphrases, becomes the nearer of them. Times of little
    noise (a ``time_sampler`` up to .01) change little else.

    It is no divergence. For a Gaussian teacher N(m, v I) and DDIM in the limit of many steps

        x = m + k (alpha (G - m) + sigma n),        k = sqrt(v / (alpha^2 v + sigma^2))

    With ``noise: fresh`` the student cannot foresee n and learns the mean over it: its spread falls to 0 at the rate
    1 - k alpha. With ``noise: own``, n = z, nothing is averaged; the fixed point m + k sigma z / (1 - k alpha) is wider
    than the teacher. Either way its mean goes to the teacher's, and something beside it has to hold the spread: the
    Recipe's ``anchor``.

    No fake score is needed and no critic learns, unless an adversary stands beside it.

    Attributes:
        steps: DDIM steps, at t - (t - t_min) k / steps: from the time t of the noise down towards the lowest, t_min.
        noise: own is the noise that the text was made from, fresh is another.
        rounding: replace every prediction of the teacher by its nearest embedding, as DiffuSeq's sampler does.
        tokens: weight of the cross-entropy of x's tokens under the logits of G(z).
    """

    needs: ClassVar[Needs] = Needs(roles=frozenset({"teacher"}))

    steps: int = Field(default=4, ge=1)
    noise: Literal["own", "fresh"] = "own"
    rounding: bool = False
    tokens: float = Field(default=1.0, ge=0)

    @property
    def asks_origin(self) -> bool:
        """Whether a text is noised with the noise that it was made from."""
        return self.noise == "own"

    def generator_terms(self, roles: Roles, fake: Noised) -> Terms:
        return fitted(fake.x0, self.target(roles, fake), fake.cond.mask, roles.space, self.tokens)

    def critic_terms(self, roles: Roles, fake: Noised, real: Noised | None) -> Terms:
        return {}

    @torch.no_grad()
    def target(self, roles: Roles, fake: Noised) -> Float[Tensor, "b l d"]:
        """x, where DDIM ends that starts at the noised text."""
        lowest = roles.process.noise_schedule.t_min
        low = fake.t.clamp(max=lowest)
        times = [fake.t + (low - fake.t) * (k / self.steps) for k in range(self.steps)]
        x_t, x0 = self.start(roles, fake), fake.x0
        for k, t in enumerate(times):
            x0 = roles.teacher(replace(fake, x_t=x_t, t=t, memo={}), graph=False).x0
            x0 = fake.cond.apply(roles.space.rounded(x0) if self.rounding else x0)
            if k + 1 < self.steps:
                x_t = fake.cond.apply(roles.process.ddim(x_t, x0, t, times[k + 1]))
        return x0

    def start(self, roles: Roles, fake: Noised) -> Float[Tensor, "b l d"]:
        """The noised text.

        Raises:
            ValueError: the state came without ``noise``.
        """
        if self.noise == "fresh":
            return fake.x_t
        if fake.noise is None:
            raise ValueError("this text came without its own noise; set noise=fresh")
        return roles.process.q_sample(fake.x0, fake.t, fake.noise(ORIGIN).to(fake.x0.dtype), fake.cond)
