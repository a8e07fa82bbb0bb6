"""Plaid's sampler, and its guidance by tokens."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.part import Part
from dlkit.samplers import register
from dlkit.samplers._base import Noise, Observer, Sampler
from dlkit.schedules._base import Schedule

State = Float[Tensor, "b l d"]


class Constraint(Part):
    """A token that a text shall hold, or not: its weight times log p is what guidance climbs.

    Attributes:
        token: id.
        weight: w; 0 is none.
        position: the token's place; ``any`` for some place, ``all`` for every one.
        complement: that the token is not there: log(1 - p) in place of log p.
    """

    token: int = Field(ge=0)
    weight: float = 2.0
    position: int | Literal["any", "all"] = "any"
    complement: bool = False


def spelled(ids: Sequence[int], start: int = 0, weight: float = 2.0) -> tuple[Constraint, ...]:
    """Constraints that these tokens stand one after another from position ``start`` on.

    From position 0 it is a prefix; several of them, put together, leave gaps to be filled in.
    """
    return tuple(Constraint(token=token, weight=weight, position=start + k) for k, token in enumerate(ids))


@register(
    "plaid",
    description="draws x_s from q(x_s | x_t, x0) or follows the ODE, its score sharpened; guided by tokens if told so",
    paper="Gulrajani & Hashimoto 2023, Plaid (arXiv 2305.18619), section 5 and its sampling program",
)
class PlaidSampler(Sampler):
    """x_s from a prediction of x0 whose noise eps = (x_t - alpha x0) / sigma is divided by a temperature.

    Guidance adds sigma^2 / alpha times the gradient by x_t of sum_c w_c log p_c. There p_c is the probability, by the
    network's logits, of the token at a place; for ``all`` it is summed over the places, and for ``any`` log p_c is
    logsumexp over the L places less L, as in the original (less log L would be a mean; it matters to complements only).

    Both divide by alpha, so some of the text must be left at t = 1, as it is in Plaid: straight flows are refused.

    The state is float64 and the network's input is not. A network that takes its last x0 is given it as it was, without
    temperature and guidance. What comes out are the states of the tokens of highest logit in the last call, so that
    every decoder reads the same from them.

    Attributes:
        steps: N.
        grid: ``matched``, N evenly spaced times from 1 to t_min with a call at each. ``official`` calls at times
            linspace(1, 0, N) of the noisy part, steps each down by 1 / N, which is not quite to the next, and calls
            once more at t_min: good for thousands of steps, and off by half the way for two.
        score_temperature: below 1 texts are more likely and less diverse.
        method: ``ancestral``, or ``ddim`` without noise.
        initial_noise_scale: of the start.
        guidance: constraints, see :class:`Constraint` and :func:`spelled`.
    """

    steps: int = Field(default=4096, ge=1)
    grid: Literal["matched", "official"] = "matched"
    score_temperature: float = Field(default=0.9, gt=0.0, le=100.0)
    method: Literal["ancestral", "ddim"] = "ancestral"
    initial_noise_scale: float = Field(default=1.0, gt=0.0)
    guidance: tuple[Constraint, ...] = ()

    def path(self, schedule: Schedule) -> list[tuple[float, float]]:
        """The steps (t, s); after them the network is asked once more, at the last s."""
        if self.grid == "matched":
            return list(pairwise(schedule.even(self.steps)))
        low, n = schedule.t_min, self.steps
        t = schedule.between(u := torch.linspace(1.0, 0.0, n, dtype=torch.float64), low, 1.0)
        s = schedule.between((u - 1.0 / n).clamp_min(0.0), low, 1.0)
        return [*zip(t.tolist(), s.tolist(), strict=True)][: max(n - 1, 1)] + [(low, low)] * (n > 1)

    def calls(self, schedule: Schedule) -> int:
        if not bool((schedule.alpha(torch.ones(1, dtype=torch.float64)) > 0.0).all()):
            raise UserError(
                f"sampler 'plaid' divides by alpha, and under the schedule {schedule.registered_name!r} nothing of the "
                "text is left at t = 1 (alpha = 0); take ddim, ancestral or euler"
            )
        return len(self.path(schedule)) + 1

    def sample(
        self, denoiser: Denoiser, cond: Condition, noise: Noise, observe: Observer | None = None
    ) -> Float[Tensor, "b l d"]:
        process, start, dtype = denoiser.process, noise(0), denoiser.space.like.dtype
        self._refuse_other_tokens(denoiser.space.vocab_size, start.shape[1])
        path = self.path(process.noise_schedule)
        x = cond.apply(self.initial_noise_scale * denoiser.prior(start.double()))
        last: State | None = None
        for k, (now, to) in enumerate(path):
            t = torch.full((len(x),), now, dtype=torch.float64, device=x.device)
            raw, gradient = self._asked(denoiser, x, t, cond, last)
            x0 = self._sharpened(process, raw.double(), x, t)
            if gradient is not None:
                x0 = x0 + gradient * process.sigma(t, x).square() / process.alpha(t, x)
            if observe is not None:
                observe(k, now, x, x0)
            if to < now:
                x = cond.apply(self._step(process, x, x0, t, torch.full_like(t, to), lambda k=k: noise(k + 1)))
            last = raw if denoiser.self_conditions else None
        self._refuse_what_is_no_number(x)
        end = path[-1][1] if path else 1.0
        t = torch.full((len(x),), end, dtype=torch.float64, device=x.device)
        found = denoiser.predict(x.to(dtype), t, cond, self_cond=last, want=frozenset({"x0", "logits"}))
        if observe is not None:
            observe(len(path), end, x, found.x0)
        assert found.logits is not None
        return cond.apply(denoiser.space.embed(found.logits.argmax(-1)).to(start.dtype))

    def _asked(
        self, denoiser: Denoiser, x: State, t: Float[Tensor, " b"], cond: Condition, last: State | None
    ) -> tuple[State, State | None]:
        """The network's x0, and the gradient of what is wished for, if anything is."""
        dtype = denoiser.space.like.dtype
        if not self.guidance:
            return denoiser.predict(x.to(dtype), t, cond, self_cond=last).x0, None
        with torch.inference_mode(False), torch.enable_grad():  # copies, since nothing made before can be followed
            x = x.clone().requires_grad_()
            own = Condition(None if cond.anchor is None else cond.anchor.clone(), cond.mask.clone())
            before = None if last is None else last.clone()
            want = frozenset({"x0", "logits"})
            found = denoiser.predict(x.to(dtype), t.clone(), own, self_cond=before, want=want)
            assert found.logits is not None
            (gradient,) = torch.autograd.grad(self._wish(found.logits), x)
        return found.x0.detach(), gradient

    def _wish(self, logits: Float[Tensor, "b l v"]) -> Float[Tensor, ""]:
        """sum_c w_c log p_c, over all texts."""
        known = F.log_softmax(logits.double(), dim=-1)
        wish = known.new_zeros(())
        for each in self.guidance:
            wish = wish + each.weight * _log_p(known, each).sum()
        return wish

    def _sharpened(self, process: GaussianProcess, x0: State, x: State, t: Float[Tensor, " b"]) -> State:
        """The x0 of a noise divided by the temperature."""
        eps = process.convert(x0, x, t, "x0", "eps") / self.score_temperature
        return process.convert(eps, x, t, "eps", "x0")

    def _step(
        self, process: GaussianProcess, x: State, x0: State, t: Float[Tensor, " b"], s: Float[Tensor, " b"], noise
    ) -> State:
        if self.method == "ddim":
            return process.ddim(x, x0, t, s)
        posterior = process.posterior(x, x0, t, s)
        return posterior.mean + posterior.std * noise().double()

    def _refuse_what_is_no_number(self, x: State) -> None:
        if torch.compiler.is_compiling():  # a graph cannot look at its numbers
            return
        if not x.isfinite().all():
            what = "the weights of its guidance" if self.guidance else "its score_temperature or initial_noise_scale"
            raise UserError(f"the sampler's states have left the range of numbers; change {what}, or the teacher")

    def _refuse_other_tokens(self, vocab_size: int, length: int) -> None:
        for each in self.guidance:
            if each.token >= vocab_size:
                raise UserError(f"guidance: token {each.token} is none of the {vocab_size}, which are counted from 0")
            if isinstance(each.position, int) and not -length <= each.position < length:
                raise UserError(f"guidance: position {each.position} is outside a text of {length} tokens")


def _log_p(known: Float[Tensor, "b l v"], wish: Constraint) -> Float[Tensor, "b *l"]:
    """log p_c, or log(1 - p_c), of the log-probabilities of all tokens.

    At a place 1 - p is the sum over the other tokens, which keeps its digits and its slope where p is 1 in float64. For
    ``any`` p = e^-L sum_l p_l is L e^-L at most, so that log(1 - p) is harmless as it stands.
    """
    if wish.position == "any":
        somewhere = known[..., wish.token].logsumexp(1) - known.shape[1]
        return torch.log1p(-somewhere.exp()) if wish.complement else somewhere
    place = known if wish.position == "all" else known[:, wish.position]
    if not wish.complement:
        return place[..., wish.token]
    itself = torch.arange(place.shape[-1], device=place.device) == wish.token
    return place.masked_fill(itself, -torch.inf).logsumexp(-1)
