"""One stage of a distillation: who learns from what at each update."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dlkit.denoiser import Denoiser
from dlkit.objectives._base import Noised, Objective, Terms
from dlkit.objectives._terms import added
from dlkit.randomness import Stream
from dlkit.recipe import Stage
from dlkit.training import checkpoint
from dlkit.training.checkpoint import State
from dlkit.training.data import Draw
from dlkit.training.ema import Ema
from dlkit.training.health import refuse_nan, rounded, time_bins
from dlkit.training.rates import set_lr, tell_of_warmup
from dlkit.training.students import guide
from dlkit.training.teacher_samples import TeacherSamples
from dlkit.training.turns import Networks, Studio, Turn

if TYPE_CHECKING:
    from dlkit.training.distill import Distiller

CLIPS = "generator.clip and critic.clip"


class StageRun:
    """One stage at work."""

    def __init__(self, whole: "Distiller", number: int, state: State | None) -> None:
        self.whole, self.number, self.recipe = whole, number, whole.recipe
        self.settings: Stage = whole.recipe.stage(number)
        self.done = 0
        student = whole.network()
        checkpoint.load_module(student.backbone, whole.best.weights)
        stream = Stream(whole.seed, f"stage{number}")
        self.is_regression, has_critic = self.recipe.is_regression(number), self.recipe.has_critic(number)
        self.is_trajectory, self.stands_alone = self.recipe.is_trajectory(number), self.recipe.stands_alone(number)
        self.networks = (
            Networks.start(
                whole.teacher,
                student,
                whole.adversary,
                stream.named("head").integer(),
                whole.recipe.guidance,
                whole.model.tokenizer.pad_id,
            )
            if has_critic
            else Networks(whole.teacher, student)
        )
        self.studio = Studio(
            whole.recipe, self.settings, self.networks, stream, whole.model.architecture.is_conditional
        )
        engine, recipe = whole.engine, whole.recipe
        self.lr_generator, self.lr_critic = (
            self.settings.lr_generator or recipe.generator.lr,
            self.settings.lr_critic or recipe.critic.lr,
        )
        self.generator_optimizer = engine.optimizer(student.backbone.parameters(), recipe.generator, self.lr_generator)
        self.critic_optimizer: torch.optim.Optimizer | None = None
        if has_critic:
            parameters = self.networks.critic.parameters()
            self.critic_optimizer = engine.optimizer(parameters, recipe.critic, self.lr_critic)
        self.prepare_networks()
        self.ema = Ema(student.backbone, recipe.ema)
        self.networks.averaged = self.ema.shadow
        self.networks.guide = self.guide()
        if state is not None:
            self.load(state)

    def prepare_networks(self) -> None:
        """What ``run.memory`` and ``run.compile`` say of the networks of the stage."""
        engine, networks = self.whole.engine, self.networks
        frozen = [networks.teacher] + ([] if networks.frozen_fake is None else [networks.frozen_fake])
        trained = [networks.student] + ([] if networks.fake is None else [networks.fake])
        for denoiser, learns in [*((one, True) for one in trained), *((one, False) for one in frozen)]:
            engine.prepare(denoiser.backbone, learns)

    def guide(self) -> Denoiser | None:
        """The other student that the objective follows, if it names one."""
        folder: str | None = getattr(self.settings.objective, "map", None)
        return None if folder is None else guide(folder, self.whole.model).denoiser.to(self.whole.engine.device)

    @cached_property
    def samples(self) -> TeacherSamples:
        """What the stage's regression learns from."""
        whole, objective = self.whole, self.settings.objective if self.is_regression else self.recipe.anchor
        pairs, steps = objective.pairs, objective.steps  # type: ignore[union-attr]  # promised by needs.data
        whole.reporter.say(f"making {pairs} samples of the teacher, {steps} calls each")
        with whole.engine.autocast(), whole.reporter.loop("teacher samples", pairs) as loop:
            return TeacherSamples(objective, self.studio, whole.corpus, whole.engine.device, loop.update)  # type: ignore[arg-type]

    def prepare(self) -> None:
        """Make what the updates to come learn from, which takes a while; nothing in a stage that is done."""
        for name, optimizer in (("generator", self.generator_optimizer), ("critic", self.critic_optimizer)):
            if optimizer is not None:
                tell_of_warmup(name, getattr(self.recipe, name), self.settings.steps)
        anchored = self.recipe.anchor is not None and not self.stands_alone
        if self.done < self.settings.steps and (self.is_regression or anchored):
            _ = self.samples

    def is_time(self, every: int, done: int) -> bool:
        """Whether something is due after ``done`` updates that happens every so many, and after the last one."""
        return done % every == 0 or done == self.settings.steps

    def step(self, step: int) -> dict[str, Tensor]:
        """Critic updates, then one generator update."""
        steps, recipe = self.settings.steps, self.recipe
        set_lr(self.generator_optimizer, recipe.generator, self.lr_generator, step, steps)
        if self.is_regression:
            values = self.generator_update(self.teacher_sampled(step), step)
        elif self.is_trajectory:
            values = self.generator_update(self.on_the_way(step), step)
        elif self.critic_optimizer is None:
            values = self.generator_update(self.freshly_noised(step), step)
        else:
            if step == 0:
                self.warm_up(self.critic_optimizer)
            set_lr(self.critic_optimizer, recipe.critic, self.lr_critic, step, steps)
            values = self.alternating_step(step)
        self.ema.tick(self.networks.student.backbone)
        return values

    def warm_up(self, optimizer: torch.optim.Optimizer) -> None:
        """Critic updates before the first generator update, at the critic's full rate; the last one is logged."""
        for group in optimizer.param_groups:
            group["lr"] = self.lr_critic
        numbers: dict[str, float] = {}
        for k in range(self.settings.critic_warmup):
            numbers = rounded(self.critic_step(k))
            refuse_nan(numbers, 1, CLIPS)
        if numbers:
            self.whole.log("warmup", self.number, 1, numbers)

    def critic_step(self, k: int) -> dict[str, Tensor]:
        """The k-th critic update of the stage, on text that no generator update sees."""
        draw = self.draw("critic", k)
        return self.critic_update(self.generate(draw, "critic", k, graph=False), draw, k)

    def teacher_sampled(self, step: int) -> Noised:
        """The student's texts of an update beside the teacher's from the same noise."""
        with self.whole.engine.autocast():
            return self.samples.noised(self.recipe.batch_size, step)

    def on_the_way(self, step: int) -> Noised:
        """Real text where the jumps of an update begin."""
        with self.whole.engine.autocast():
            return self.studio.trip(self.draw("generator", step), step)

    def freshly_noised(self, step: int) -> Noised:
        """The student's texts of an update that no critic has seen."""
        draw = self.draw("generator", step)
        return self.noised(self.generate(draw, "generator", step, graph=True), draw, "generator", step, step)

    def noised(self, generated: Tensor, draw: Draw, made_of: str, made_at: int, step: int) -> Noised:
        """The student's texts of an update, noised."""
        with self.whole.engine.autocast():
            return self.studio.noised(generated, draw, "generator/fake", step, made_of=(made_of, made_at))

    def alternating_step(self, step: int) -> dict[str, Tensor]:
        """Algorithm 1: the critic's updates, then the generator's, on fresh samples or on those of the last."""
        plan, warmup = self.recipe.plan, self.settings.critic_warmup
        last = warmup + (step + 1) * plan.critic_steps_per_generator_step - 1
        for k in range(last - plan.critic_steps_per_generator_step + 1, last):
            self.critic_step(k)
        draw = self.draw("critic", last)
        generated = self.generate(draw, "critic", last, graph=plan.share_samples)
        if plan.share_predictions:
            return self.joint_update(generated, draw, last, step)
        values = self.critic_update(generated, draw, last)
        shared = plan.share_samples
        fake = self.noised(generated, draw, "critic", last, step) if shared else self.freshly_noised(step)
        return values | self.generator_update(fake, step)

    def draw(self, name: str, step: int) -> Draw:
        """The rows of one update; each use goes through the corpus in an order of its own."""
        order = self.studio.stream.named(f"{name}/rows").integer()
        return self.whole.corpus.draw(self.recipe.batch_size, step, order, self.whole.engine.device)

    def generate(self, draw: Draw, name: str, step: int, graph: bool) -> Tensor:
        with torch.set_grad_enabled(graph), self.whole.engine.autocast():
            return self.studio.generated(draw, name, step)

    def critic_update(self, generated: Tensor, draw: Draw, k: int) -> dict[str, Tensor]:
        """psi and head learn from generated text, then from real text if an objective needs it."""
        turn = Turn(self.networks, self.whole.adversary, critic=True)
        with self.whole.engine.autocast():
            dropout = self.recipe.guidance.condition_dropout
            fake = self.studio.noised(generated.detach(), draw, "critic/fake", k, dropout)
            real = self.really_noised(k, dropout)
            terms = [(weight, objective.critic_terms(turn, fake, real)) for objective, weight, _ in self.weighted()]
        values = added(self.backward("critic", terms), self.learn_from_real(turn, real))
        return values | self.critic_steps()

    def learn_from_real(self, turn: Turn, real: Noised | None) -> dict[str, Tensor]:
        """The part of the critic's loss that is of real text alone, when the graph of the rest has been used up."""
        if real is None:
            return {}
        with self.whole.engine.autocast():
            terms = [(weight, objective.real_terms(turn, real)) for objective, weight, _ in self.weighted()]
        return self.backward("critic", terms)

    def critic_steps(self) -> dict[str, Tensor]:
        assert self.critic_optimizer is not None
        return {"critic_grad_norm": self.whole.engine.step(self.critic_optimizer, self.recipe.critic.clip)}

    def joint_update(self, generated: Tensor, draw: Draw, k: int, step: int) -> dict[str, Tensor]:
        """Both turns on one prediction of the fake score: its losses part at the backward pass, then both step."""
        turn = Turn(self.networks, self.whole.adversary, critic=True, generator=True)
        fake = self.noised(generated, draw, "critic", k, step)
        with self.whole.engine.autocast():
            real = self.really_noised(k, dropout=0.0)
            follow = [(weight, objective.generator_terms(turn, fake)) for objective, _, weight in self.weighted()]
            follow += self.anchored(turn, step)
            still = replace(fake, x0=fake.x0.detach())  # what the critic is to find; the prediction is the same
            learn = [(weight, objective.critic_terms(turn, still, real)) for objective, weight, _ in self.weighted()]
        values = self.backward("generator", follow, self.networks.student.backbone, keep=True)
        values |= self.backward("critic", learn, self.networks.critic)
        values = added(values, self.learn_from_real(turn, real))
        return values | self.critic_steps() | self.generator_steps(fake, step)

    def really_noised(self, k: int, dropout: float) -> Noised | None:
        """Real text of the k-th critic update, if an objective asks for some."""
        if all(objective.needs.data != "real" for objective, *_ in self.weighted()):
            return None
        drawn = self.draw("critic/real", k)
        return self.studio.noised(self.studio.real(drawn), drawn, "critic/real", k, dropout)

    def backward(
        self, whose: str, terms: list[tuple[float, Terms]], only: nn.Module | None = None, keep: bool = False
    ) -> dict[str, Tensor]:
        """Add the gradients of weighted terms; returns their values without the weights.

        Args:
            whose: what the names of the values begin with.
            terms: with their weights.
            only: what learns; None is all that the terms depend on.
            keep: the graph is needed once more.
        """
        values = {f"{whose}_{name}": term for _, group in terms for name, term in group.items()}
        if values:
            loss = torch.stack([w * term for w, group in terms for term in group.values()]).sum()
            self.whole.engine.backward(loss, None if only is None else list(only.parameters()), keep=keep)
        return detach(values)

    def generator_update(self, fake: Noised, step: int) -> dict[str, Tensor]:
        """The student learns through the frozen networks."""
        thrifty = self.recipe.run.memory == "low"
        turn = Turn(self.networks, self.whole.adversary, critic=False, thrifty=thrifty)
        with self.whole.engine.autocast():
            terms = [(weight, objective.generator_terms(turn, fake)) for objective, _, weight in self.weighted()]
            terms += self.anchored(turn, step)
        return self.backward("generator", terms) | self.generator_steps(fake, step)

    def generator_steps(self, fake: Noised, step: int) -> dict[str, Tensor]:
        norm = self.whole.engine.step(self.generator_optimizer, self.recipe.generator.clip)
        logged = self.is_time(self.recipe.run.log_every, step + 1)
        return {"generator_grad_norm": norm} | (gaps(fake) if logged else {})

    def anchored(self, turn: Turn, step: int) -> list[tuple[float, Terms]]:
        """The regression beside the objective, if there is one."""
        anchor, weights = self.recipe.anchor, self.settings.weights
        if anchor is None or self.stands_alone:
            return []
        assert weights is not None
        terms = anchor.generator_terms(turn, self.teacher_sampled(step))
        return [(weights.c_anchor, {f"anchor_{name}": term for name, term in terms.items()})]

    def weighted(self) -> Iterator[tuple[Objective, float, float]]:
        """The objectives with their weights in the critic's and in the generator's turn; an adversary counts once.

        Squared errors are means over a state's coordinates, so they count in units of those coordinates' variance: of a
        one-hot state all but one are nearly nought, and beside an adversary the fake score would learn nothing.
        """
        weights = self.settings.weights
        assert weights is not None
        assert self.settings.objective is not None
        if not self.settings.objective.is_adversary:
            unit = self.networks.teacher.space.variance
            yield self.settings.objective, weights.a_dsm / unit, weights.a_sd
        if self.whole.adversary is not None and not self.stands_alone:
            yield self.whole.adversary, weights.b_adv_psi, weights.b_adv_theta

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that a checkpoint must hold of this stage."""
        state = {
            "student": checkpoint.module_state(self.networks.student.backbone),
            "generator_optimizer": checkpoint.optimizer_state(self.generator_optimizer),
            "ema": self.ema.state(),
        }
        if self.critic_optimizer is not None:
            state["critic"] = checkpoint.module_state(self.networks.critic)
            state["critic_optimizer"] = checkpoint.optimizer_state(self.critic_optimizer)
        return state

    def load(self, state: State) -> None:
        """Go on from a checkpoint of this stage."""
        checkpoint.load_module(self.networks.student.backbone, state.part("student"))
        checkpoint.load_module(self.networks.critic, state.part("critic"))
        checkpoint.load_optimizer(self.generator_optimizer, state.part("generator_optimizer"))
        if self.critic_optimizer is not None:
            checkpoint.load_optimizer(self.critic_optimizer, state.part("critic_optimizer"))
        self.ema.load(state.part("ema"), state.values["ticks"])
        before = sum(stage.steps for stage in self.recipe.stages[: self.number])
        self.done = state.values["step"] - before


def detach(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}


@torch.no_grad()
def gaps(fake: Noised) -> dict[str, Any]:
    """Mean |x0_teacher - x0_fake| over generated positions, for each quarter of time: where the scores still differ."""
    if not {"teacher", "fake"} <= fake.memo.keys():
        return {}
    keep = fake.cond.mask[..., None]
    difference = (fake.memo["teacher"].x0 - fake.memo["fake"].x0).abs() * keep
    per_sample = difference.sum((1, 2)) / (keep.sum((1, 2)) * difference.shape[-1]).clamp_min(1)
    return {f"gap_{name}": value for name, value in time_bins(per_sample, fake.t).items()}
