"""The networks of a distillation, and what an objective sees of them in each turn."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dlkit.denoiser import Denoiser, Prediction, frozen_call
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.objectives._base import Noised
from dlkit.objectives.adversarial import Adversarial
from dlkit.randomness import Stream
from dlkit.recipe import Recipe, Stage
from dlkit.spaces.embedding import sigma_0_noised
from dlkit.training.data import Draw


@dataclass
class Networks:
    """Teacher phi, student theta and fake score psi share one frozen space.

    Attributes:
        teacher: no parameter of it is ever trained.
        student: the one-step generator.
        fake: the fake score, if a critic learns in the stage.
        head: the discriminator's head, if an adversary does; the critic's optimiser trains it with psi.
    """

    teacher: Denoiser
    student: Denoiser
    fake: Denoiser | None = None
    head: nn.Module | None = None

    @classmethod
    def start(cls, teacher: Denoiser, student: Denoiser, adversary: Adversarial | None, seed: int) -> "Networks":
        """The beginning of a stage with a critic: psi is a copy of the teacher, the head is new."""
        fake = sibling(teacher)
        head = None
        if adversary is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                width: int = fake.backbone.feature_dim  # type: ignore[assignment]
                head = adversary.build_head(width).to(teacher.space.table.device)
        return cls(teacher, student, fake, head)

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

    In the critic's turn psi and the head are trained. In the generator's they are called with detached parameters:
    gradients pass through their inputs only, and a backward pass leaves none behind in them.
    """

    def __init__(self, networks: Networks, adversary: Adversarial | None, critic: bool) -> None:
        self.networks, self.adversary, self.critic = networks, adversary, critic
        self.process: GaussianProcess = networks.teacher.process
        self.read = None if adversary is None else adversary.features  # the role whose features the head reads

    def teacher(self, noised: Noised, graph: bool = True) -> Prediction:
        if "teacher" not in noised.memo:
            with torch.set_grad_enabled((graph or self.read == "teacher") and not self.critic):
                noised.memo["teacher"] = self._call(self.networks.teacher.predict, noised, "teacher")
        return noised.memo["teacher"]

    def fake_score(self, noised: Noised, graph: bool = True) -> Prediction:
        if "fake" not in noised.memo:
            assert self.networks.fake is not None
            call = self.networks.fake.predict if self.critic else self.networks.fake.frozen_predict
            with torch.set_grad_enabled(graph or self.read == "fake_score"):
                noised.memo["fake"] = self._call(call, noised, "fake_score")
        return noised.memo["fake"]

    def _call(self, call: Callable[..., Prediction], noised: Noised, role: str) -> Prediction:
        """One network call, with features if the head reads them."""
        if self.adversary is None or self.read != role:
            return call(noised.x_t, noised.t, noised.cond)
        want = frozenset({"x0", "features"})
        return call(noised.x_t, noised.t, noised.cond, want=want, taps=self.adversary.taps)

    def discriminator(self, noised: Noised) -> Float[Tensor, "b *l"]:
        assert self.networks.head is not None
        predict = self.teacher if self.read == "teacher" else self.fake_score
        features, mask = predict(noised).features, noised.cond.mask
        assert features is not None
        if self.critic:
            return self.networks.head(features, mask)
        return frozen_call(self.networks.head, features, mask)


class Studio:
    """Makes the states of a turn: generated or real, clean and noised.

    Args:
        recipe: its ``t_init`` and ``x0_noise`` are used.
        stage: its ``time_sampler`` is used.
        networks: of the stage.
        stream: of the stage; every use below it has its own name.
    """

    def __init__(self, recipe: Recipe, stage: Stage, networks: Networks, stream: Stream) -> None:
        self.recipe, self.stage, self.networks, self.stream = recipe, stage, networks, stream
        self.space, self.process = networks.teacher.space, networks.teacher.process

    def condition(self, draw: Draw) -> Condition:
        """The true embeddings of the source."""
        return Condition(self.space.embed(draw.batch.ids), draw.batch.mask)

    def noise(self, draw: Draw, name: str, step: int) -> Float[Tensor, "b l d"]:
        """z, a function of the number of each sample."""
        return self.stream.named(f"{name}/z").at(step).normal(draw.index, draw.batch.ids.shape[1], self.space.dim)

    def generated(self, draw: Draw, name: str, step: int) -> Float[Tensor, "b l d"]:
        """e = G(z, t_init), with the true source embeddings at the source positions."""
        return self.student(self.condition(draw), self.noise(draw, name, step))

    def student(self, cond: Condition, z: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """What the student makes of noise, asked at t_init."""
        t = torch.full((len(z),), self.recipe.t_init, dtype=torch.float64, device=z.device)
        return self.denoised(cond, self.process.prior(z), t)

    def denoised(self, cond: Condition, x_t: Float[Tensor, "b l d"], t: Float[Tensor, " b"]) -> Float[Tensor, "b l d"]:
        """What the student makes of a state."""
        return cond.apply(self.networks.student.predict(x_t, t, cond).x0)

    def times(self, u: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Times of the stage's distribution from uniforms."""
        return self.stage.time_sampler.sample(u, self.process.noise_schedule)

    def noised(self, x0: Float[Tensor, "b l d"], draw: Draw, name: str, step: int) -> Noised:
        """Noise states at times of the stage's distribution; generated and real text go the same way."""
        stream = self.stream.named(name).at(step)
        shape = x0.shape[1:]
        if self.recipe.x0_noise == "sigma_0":
            x0 = sigma_0_noised(x0, self.process.sigma_0, stream.named("eps_0").normal(draw.index, *shape))
        cond = Condition(x0.detach(), draw.batch.mask)  # the source positions of x0 are the true ones already
        t = self.times(stream.named("time").uniform(draw.index))
        eps = stream.named("eps").normal(draw.index, *shape)
        noise = lambda use: stream.named(use).normal(draw.index, *shape)  # noqa: E731
        return Noised(x0, self.process.q_sample(x0, t, eps, cond), t, cond, noise=noise)
