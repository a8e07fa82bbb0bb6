"""The networks of a distillation, and what an objective sees of them in each turn."""

import copy
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from dlkit.denoiser import X0, Denoiser, Prediction, frozen
from dlkit.diffusion.codes import one_of
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.guidance import guided, null_state
from dlkit.objectives._base import ORIGIN, Noised
from dlkit.objectives._trajectory import Trajectory, Trip, Who
from dlkit.objectives.adversarial import Adversarial
from dlkit.randomness import Stream
from dlkit.recipe import Guidance, Recipe, Stage
from dlkit.samplers.renoise import Renoise
from dlkit.spaces._base import TokenSpace
from dlkit.spaces.embedding import sigma_0_noised
from dlkit.training.data import Draw, sent


@dataclass
class Networks:
    """Teacher phi, student theta and fake score psi share one frozen space.

    Attributes:
        teacher: with its guidance; no parameter of it is ever trained.
        student: the generator.
        fake: the fake score without guidance, if a critic learns in the stage.
        head: the discriminator's head, if an adversary does; the critic's optimiser trains it with psi.
        guidance: of the fake score in each turn.
        null_id: the token that stands for no source.
        averaged: the averaged weights of the student's backbone by name, if an objective may ask for them.
        guide: another student, if the objective names one.
        frozen_fake, frozen_head: the fake score and the head as the generator's turn sees them, if there are any: the
            same weights, which take no gradient.
    """

    teacher: Denoiser
    student: Denoiser
    fake: Denoiser | None = None
    head: nn.Module | None = None
    guidance: Guidance = field(default_factory=Guidance)
    null_id: int = 0
    averaged: dict[str, Tensor] = field(default_factory=dict)
    guide: Denoiser | None = None

    @classmethod
    def start(
        cls,
        teacher: Denoiser,
        student: Denoiser,
        adversary: Adversarial | None,
        seed: int,
        guidance: Guidance | None = None,
        null_id: int = 0,
    ) -> "Networks":
        """The beginning of a stage with a critic: psi is a copy of the teacher, the head is new."""
        fake = sibling(teacher)
        head = None
        if adversary is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                width: int = fake.backbone.feature_dim  # type: ignore[assignment]
                head = adversary.build_head(width).to(teacher.space.device)
        return cls(teacher, student, fake, head, guidance or Guidance(), null_id)

    def __post_init__(self) -> None:
        self.frozen_fake = None if self.fake is None else frozen(self.fake)
        self.frozen_head = None if self.head is None else frozen(self.head)

    def fake_score(self, critic: bool) -> Denoiser:
        """The fake score as a turn sees it."""
        assert self.fake is not None and self.frozen_fake is not None
        if critic:
            return guided(self.fake, self.guidance.critic, self.null_id)
        return guided(self.frozen_fake, self.guidance.fake_score, self.null_id)

    @property
    def critic(self) -> nn.ModuleDict:
        """What the critic's optimiser trains; empty in a stage without a critic."""
        fake = None if self.fake is None else self.fake.backbone
        return nn.ModuleDict({name: part for name, part in (("fake", fake), ("head", self.head)) if part is not None})


def sibling(denoiser: Denoiser) -> Denoiser:
    """A trainable network that starts as a copy and shares the frozen space. Dropout stays off in distillation."""
    backbone = copy.deepcopy(denoiser.backbone).requires_grad_(True)
    return Denoiser(denoiser.space, denoiser.process, backbone, denoiser.prediction).eval()


class Turn:
    """The roles of one turn (see :class:`dlkit.objectives._base.Roles`).

    In the critic's turn psi and the head are trained. In the generator's their frozen twins are called: gradients pass
    through their inputs only, and a backward pass leaves none behind in them. A turn that is both calls psi itself and
    lets gradients pass, so that one prediction serves two losses; who takes whose gradients is then for the backward
    pass to say. Where there is guidance, predictions are guided; no objective knows.

    Args:
        networks: of the stage.
        adversary: whose head reads features.
        critic: whether psi and the head are trained.
        generator: whether gradients pass on to the states; None where the critic is not trained.
        thrifty: where an objective wants gradients through teacher and fake score, one of the two graphs is there at a
            time: the teacher is called again in the backward pass, when the other's graph has been used up.
    """

    def __init__(
        self,
        networks: Networks,
        adversary: Adversarial | None,
        critic: bool,
        *,
        generator: bool | None = None,
        thrifty: bool = False,
    ) -> None:
        self.networks, self.adversary, self.critic, self.thrifty = networks, adversary, critic, thrifty
        self.generator = not critic if generator is None else generator
        self.process: GaussianProcess = networks.teacher.process
        self.space: TokenSpace = networks.teacher.space
        self.read = None if adversary is None else adversary.features  # the role whose features the head reads

    def teacher(self, noised: Noised, graph: bool = True) -> Prediction:
        if "teacher" not in noised.memo:
            with torch.set_grad_enabled((graph or self.read == "teacher") and self.generator):
                call = partial(self._call, self.networks.teacher.predict, noised, "teacher")
                again = self.thrifty and graph and self.generator
                noised.memo["teacher"] = _again_later(call, noised.x_t) if again else call(noised.x_t)
        return noised.memo["teacher"] if graph else _detached(noised.memo["teacher"])

    def fake_score(self, noised: Noised, graph: bool = True) -> Prediction:
        if "fake" not in noised.memo:
            fake = self.networks.fake_score(self.critic)
            both = self.critic and self.generator  # then whoever asks first asks for the other too
            with torch.set_grad_enabled(graph or both or self.read == "fake_score"):
                noised.memo["fake"] = self._call(fake.predict, noised, "fake_score", noised.x_t)
        return noised.memo["fake"] if graph else _detached(noised.memo["fake"])

    def _call(
        self, call: Callable[..., Prediction], noised: Noised, role: str, x_t: Float[Tensor, "b l d"]
    ) -> Prediction:
        """One network call, with features if the head reads them."""
        if self.adversary is None or self.read != role:
            return call(x_t, noised.t, noised.cond)
        want = frozenset({"x0", "features"})
        return call(x_t, noised.t, noised.cond, want=want, taps=self.adversary.taps)

    def ask(
        self,
        who: Who,
        x: Float[Tensor, "b l d"],
        s: Float[Tensor, " b"],
        cond: Condition,
        end: Float[Tensor, " b"] | None = None,
        want: AbstractSet[str] = X0,
    ) -> Prediction:
        """See :class:`dlkit.objectives._trajectory.TrajectoryRoles`."""
        networks = self.networks
        options: dict[str, Any] = {"want": want, "end": end}
        s = s.clamp_min(self.process.noise_schedule.t_min)
        if who == "student":
            return networks.student.predict(x, s, cond, **options)
        with torch.no_grad():
            if who == "averaged":
                weights = {f"backbone.{name}": weight for name, weight in networks.averaged.items()}
                return functional_call(networks.student, weights, (x, s, cond), options)
            others = {"teacher": networks.teacher, "target": networks.student, "guide": networks.guide}
            asked = others[who]
            assert asked is not None  # promised by the objective that asks
            return asked.predict(x, s, cond, **options)

    def log_weight(self, s: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """See :class:`dlkit.objectives._trajectory.TrajectoryRoles`."""
        weighting: nn.Module = self.networks.student.backbone.learnable_loss_weighting  # type: ignore[assignment]
        return weighting(self.process.noise_schedule.network_time(s))

    def discriminator(self, noised: Noised) -> Float[Tensor, "b *l"]:
        head = self.networks.head if self.critic else self.networks.frozen_head
        predict = self.teacher if self.read == "teacher" else self.fake_score
        features, mask = predict(noised).features, noised.cond.mask
        assert features is not None and head is not None
        return head(features, mask)


def _again_later(call: Callable[[Tensor], Prediction], x_t: Float[Tensor, "b l d"]) -> Prediction:
    """A call of which nothing is kept: a backward pass makes it again."""
    return checkpoint(call, x_t, use_reentrant=False, preserve_rng_state=False)  # type: ignore[return-value]


def _detached(prediction: Prediction) -> Prediction:
    """What a network says of a state, as numbers; its features are the discriminator's business."""
    return replace(prediction, x0=prediction.x0.detach(), value=prediction.value.detach())


class Studio:
    """Makes the states of a turn: generated or real, clean and noised.

    Args:
        recipe: its ``t_init``, ``codes``, ``generator_steps``, ``generator_input``, ``x0_noise`` and ``guidance`` are
            used.
        stage: its ``time_sampler`` is used.
        networks: of the stage.
        stream: of the stage; every use below it has its own name.
        conditional: whether texts have a source.
    """

    def __init__(
        self, recipe: Recipe, stage: Stage, networks: Networks, stream: Stream, conditional: bool = True
    ) -> None:
        self.recipe, self.stage, self.networks, self.stream = recipe, stage, networks, stream
        self.conditional = conditional
        self.space, self.process = networks.teacher.space, networks.teacher.process
        self.grid = Renoise(steps=recipe.generator_steps, t_init=recipe.t_init).times

    def condition(self, draw: Draw) -> Condition:
        """The true states of the source; nothing where there is none."""
        return Condition(self.real(draw) if self.conditional else None, draw.batch.mask)

    def real(self, draw: Draw) -> Float[Tensor, "b l d"]:
        """Real text, its source included."""
        return self.space.embed(draw.batch.ids)

    def noise(self, draw: Draw, name: str, step: int) -> Float[Tensor, "b l d"]:
        """z, a function of the number of each sample; one of the codes, if the Recipe has some."""
        z = self.stream.named(f"{name}/z").at(step).normal(draw.index, draw.batch.ids.shape[1], self.space.dim)
        return one_of(z, self.recipe.codes, self.stream.seed)

    def generated(self, draw: Draw, name: str, step: int) -> Float[Tensor, "b l d"]:
        """e = G(z, t_init), with the true source embeddings at the source positions.

        A student of several steps is asked at one of them, each sample at its own. Gradients reach that call alone.
        """
        cond = self.condition(draw)
        if len(self.grid) == 1:
            return self.student(cond, self.noise(draw, name, step))
        return self.denoised(cond, *self.step_input(cond, draw, name, step))

    @torch.no_grad()
    def step_input(
        self, cond: Condition, draw: Draw, name: str, step: int
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, " b"]]:
        """States and times at which a student of several steps is asked, every step equally likely.

        At the first time it is noise, as in generation. At a later one it is alpha x + sigma n with fresh noise n, x
        being real text (``noised_data``) or the student's own text of the step before (``backward_simulation``: Yin et
        al. 2024, DMD2, arXiv 2405.14867, where a whole batch is at one step).
        """
        which = self.stream.named(f"{name}/step").at(step).integers(draw.index, len(self.grid))
        z = self.networks.teacher.prior(self.noise(draw, name, step), self.grid[0])
        if self.recipe.generator_input == "backward_simulation":
            return self._simulated(cond, z, which, draw, name, step)
        t = sent(torch.tensor(self.grid, dtype=torch.float64), z.device)[which]
        x_t = self.process.q_sample(self.real(draw), t, self.noise(draw, f"{name}/data", step), cond)
        return torch.where(which[:, None, None] == 0, z, x_t), t

    def _simulated(
        self, cond: Condition, x_t: Float[Tensor, "b l d"], which: Int[Tensor, " b"], draw: Draw, name: str, step: int
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, " b"]]:
        """The student's own way from noise to each sample's step."""
        t = torch.full((len(x_t),), self.grid[0], dtype=torch.float64, device=x_t.device)
        for number, now in enumerate(self.grid[1:], start=1):
            later = which >= number
            x0 = self.denoised(cond, x_t, t)
            t = torch.where(later, now, t)
            noised = self.process.q_sample(x0, t, self.noise(draw, f"{name}/{number}", step), cond)
            x_t = torch.where(later[:, None, None], noised, x_t)
        return x_t, t

    def student(self, cond: Condition, z: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """What the student makes of noise, asked at t_init."""
        t = torch.full((len(z),), self.recipe.t_init, dtype=torch.float64, device=z.device)
        return self.denoised(cond, self.networks.teacher.prior(z, self.recipe.t_init), t)

    def denoised(self, cond: Condition, x_t: Float[Tensor, "b l d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b l d"]:
        """What the student makes of a state."""
        return cond.apply(self.networks.student.predict(x_t, t, cond).x0)

    def times(self, u: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Times of the stage's distribution from uniforms."""
        return self.stage.time_sampler.sample(u, self.process.noise_schedule)

    def noised(
        self,
        x0: Float[Tensor, "b l d"],
        draw: Draw,
        name: str,
        step: int,
        dropout: float = 0.0,
        made_of: tuple[str, int] | None = None,
        t: Float[Tensor, " b"] | None = None,
    ) -> Noised:
        """Noise states at times of the stage's distribution; generated and real text go the same way.

        Args:
            t: other times.
            dropout: share of samples that lose their source.
            made_of: name and step of the noise that the text was generated from.
        """
        stream = self.stream.named(name).at(step)
        shape = x0.shape[1:]
        if self.recipe.x0_noise == "sigma_0":
            x0 = sigma_0_noised(x0, self.process.sigma_0, stream.named("eps_0").normal(draw.index, *shape))
        # the source positions of x0 are the true ones already
        cond = Condition(x0.detach() if self.conditional else None, draw.batch.mask)
        if dropout:
            lost = stream.named("condition").uniform(draw.index) < dropout
            cond = cond.dropped(null_state(self.networks.teacher, self.networks.null_id), lost)
        t = self.times(stream.named("time").uniform(draw.index)) if t is None else t
        eps = stream.named("eps").normal(draw.index, *shape)

        def noise(use: str) -> Tensor:
            if use == ORIGIN and made_of is not None:
                return self.noise(draw, *made_of)
            return stream.named(use).normal(draw.index, *shape)

        return Noised(x0, self.process.q_sample(x0, t, eps, cond), t, cond, noise=noise)

    def trip(self, draw: Draw, step: int) -> Trip:
        """Real text at the beginnings of jumps; every other text of the draw at rest, if a diagonal is to learn."""
        objective: Trajectory = self.stage.objective  # type: ignore[assignment]
        rows, still = torch.arange(len(draw.index), device=draw.index.device), None
        if objective.has_diagonal:
            rest, rows = draw.rows(rows[1::2]), rows[::2]
            still = self.noised(self.real(rest), rest, "still", step)
        moving = draw.rows(rows)
        stream = self.stream.named("way").at(step)
        highest = self.recipe.t_init if objective.student_kind == "same" else 1.0
        schedule = self.process.noise_schedule
        way = objective.way(lambda use: stream.named(use).uniform(moving.index), schedule, highest)
        start = self.noised(self.real(moving), moving, "moving", step, t=way.begin)
        return Trip(start.x0, start.x_t, start.t, start.cond, noise=start.noise, way=way, still=still)
