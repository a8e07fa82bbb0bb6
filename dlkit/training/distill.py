"""Distillation: DLM-One's Algorithm 1 with interchangeable parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkit.data.splits import has_split
from dlkit.denoiser import Denoiser
from dlkit.errors import UserError
from dlkit.generator import OneStepGenerator, Teacher, load_teacher
from dlkit.guidance import guided
from dlkit.objectives.adversarial import Adversarial
from dlkit.part import from_spec, plugins_of
from dlkit.recipe import Recipe
from dlkit.samplers import registry as samplers
from dlkit.samplers._base import Sampler
from dlkit.samplers.flow_map import FlowMapSampler
from dlkit.training import checkpoint
from dlkit.training.checkpoint import State
from dlkit.training.data import Corpus, data_identity, read_examples, read_held_out
from dlkit.training.engine import Engine, TorchEngine, kernels
from dlkit.training.feasible import check_feasible
from dlkit.training.folder import Clock, RunFolder
from dlkit.training.health import largest, refuse_nan, rounded
from dlkit.training.plan import describe
from dlkit.training.progress import Reporter
from dlkit.training.stage import CLIPS, StageRun
from dlkit.training.students import beginner, maps, student_backbone
from dlkit.training.turns import sibling
from dlkit.training.validation import check, metric_of, outputs, validate


@dataclass(frozen=True)
class DistillResult:
    """What ``distill`` leaves behind.

    Attributes:
        student: folder of the best student.
        log: file of the training log.
        best: stage (from 0, as in the log), step and score of the best student.
    """

    student: Path
    log: Path
    best: dict[str, Any]


@dataclass
class Best:
    """The best student so far: averaged weights of its backbone and where they come from."""

    weights: dict[str, Tensor]
    stage: int = 0
    step: int = 0
    score: float | None = None

    def where(self) -> dict[str, Any]:
        return {"stage": self.stage, "step": self.step, "score": self.score}


def distill(
    recipe: Recipe,
    teacher: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> DistillResult:
    """Distil a teacher into a student of one step, or of a few.

    Args:
        recipe: all but its ``fit`` is used; ``model`` is taken from the teacher.
        teacher: folder of the teacher.
        data: folder with the splits train and valid.
        out: folder of the run; the best student is in ``out/student``.
        seed: of order, noise and head.
        resume: go on from the last checkpoint.

    Raises:
        UserError: the teacher, the data, the recipe or the output folder cannot be used.
    """
    reporter = reporter or Reporter()
    engine = TorchEngine(recipe.run)
    source = load_teacher(teacher)
    if not has_split(data, "valid") and has_split(data, "train"):
        raise UserError(f"{data} has no file of the split valid; the best student is chosen on it, so add one")
    identity = {"seed": seed, "teacher": source.fingerprint(), "data": data_identity(data)}
    followed = maps(recipe, source)
    identity |= {"map": followed} if followed else {}
    folder = RunFolder(out, "distill", recipe, identity, resume)
    distiller = Distiller(recipe, source, data, engine, seed, folder, reporter)
    with kernels(recipe.run):
        distiller.run()
    return DistillResult(folder.path / "student", folder.log_file, distiller.best.where())


class Distiller:
    """The state and the loop of one distillation."""

    def __init__(
        self,
        recipe: Recipe,
        teacher: Teacher,
        data: str | Path,
        engine: Engine,
        seed: int,
        folder: RunFolder,
        reporter: Reporter,
    ) -> None:
        self.recipe, self.engine, self.seed = recipe, engine, seed
        self.folder, self.reporter = folder, reporter
        self.model, arch = teacher, teacher.architecture
        shape = (teacher.tokenizer, arch.seq_len, arch.overlong)
        self.corpus = Corpus(data, *shape, read_examples(data, "train", arch.layout), arch.layout)
        held_out = read_held_out(data, "valid", arch.layout, recipe.evaluation.n_sources)
        self.held_out = held_out.normalised(*shape)
        network = guided(teacher.denoiser, recipe.guidance.teacher, teacher.tokenizer.pad_id)
        self.teacher: Denoiser = engine.setup(network.requires_grad_(False))  # type: ignore[assignment]
        self.adversary: Adversarial | None = recipe.adv  # type: ignore[assignment]
        self.backbone = student_backbone(recipe.stage(0).objective, arch)  # type: ignore[arg-type]
        self.best = Best(checkpoint.module_state(self.network().backbone))
        self.metric = metric_of(recipe.evaluation, arch.layout)
        check(self.held_out, self.metric, outputs(recipe.evaluation, arch.layout))
        check_feasible(recipe, arch, engine.device)
        self.clock = Clock()

    def network(self) -> Denoiser:
        """The student as it begins; most begin as the teacher."""
        if self.backbone == self.model.architecture.backbone:
            return sibling(self.teacher)
        return beginner(self.teacher, self.backbone, self.seed)

    def run(self) -> None:
        """All stages, from the last checkpoint on, and the best student's folder."""
        path = checkpoint.latest(self.folder.checkpoints)
        state = None if path is None else checkpoint.load(path, ("step", "ticks", "seconds", "stage", "best"))
        first = 0 if state is None else state.values["stage"]
        if state is not None:
            self.best = Best(state.part("best"), **state.values["best"])
            self.clock = Clock(state.values["seconds"])
        for number in range(first, len(self.recipe.stages)):
            self.run_stage(number, state if number == first else None)
        student = self.student(self.best.weights)
        student.save_pretrained(self.folder.path / "student")
        self.reporter.say(f"best student: stage {self.best.stage + 1}, step {self.best.step}, {self.best.score:.4f}")

    def run_stage(self, number: int, state: State | None) -> None:
        """One stage: the student goes on from the best one, psi and head start anew."""
        stage = StageRun(self, number, state)
        self.folder.rewind(stage.done, number)
        for line in describe(self.recipe, number):
            self.reporter.say(line)
        stage.prepare()
        with self.reporter.loop(f"stage {number + 1}", stage.settings.steps, stage.done) as loop:
            for step in range(stage.done, stage.settings.steps):
                values = stage.step(step)
                stage.done = step + 1
                self.after_step(stage, values)
                loop.update(stage.done, f"best {self.metric.registered_name} {self.best.score or 0:.4f}")

    def after_step(self, stage: StageRun, values: dict[str, Tensor]) -> None:
        """Log, validate and save where it is time to."""
        run, evaluation = self.recipe.run, self.recipe.evaluation
        every = (run.log_every, run.checkpoint_every, evaluation.every)
        logs, saves, validates = (stage.is_time(updates, stage.done) for updates in every)
        numbers = rounded(values) if logs or saves else {}
        weights = largest(stage.ema.state()) if saves or validates else {}  # the losses are those before the update
        refuse_nan(numbers | weights, stage.done, CLIPS)
        if logs:
            self.log("distill", stage.number, stage.done, numbers)
        if validates:
            self.validate(stage)
        if saves:
            self.save(stage)

    def log(self, kind: str, stage: int, step: int, values: dict[str, float]) -> None:
        self.folder.log(kind=kind, stage=stage, step=step, seconds=round(self.clock.seconds, 2), **values)

    def validate(self, stage: StageRun) -> None:
        """Score the averaged student; keep it if it is the best so far."""
        settings = self.recipe.evaluation
        student = self.student(stage.ema.state())
        count = outputs(settings, self.model.architecture.layout)
        score, values = validate(student, self.held_out, self.metric, count, settings.steps, self.seed)
        self.log("valid", stage.number, stage.done, rounded(values))
        sign = 1.0 if self.metric.higher_is_better else -1.0
        if self.best.score is None or sign * score > sign * self.best.score:
            weights = {name: tensor.clone() for name, tensor in stage.ema.state().items()}
            self.best = Best(weights, stage.number, stage.done, score)

    @property
    def codes(self) -> dict[str, Any]:
        """What the student's sampler must know of its noise."""
        return {} if self.recipe.codes is None else {"codes": self.recipe.codes, "codes_seed": self.seed}

    @property
    def sampler(self) -> Sampler:
        """How the student writes."""
        steps = self.recipe.generator_steps
        if self.recipe.student_kind(0) != "same":
            return FlowMapSampler(steps=steps)
        name, codes = ("one_step", self.codes) if steps == 1 else ("renoise", {})
        return from_spec(samplers, {"name": name, "steps": steps, "t_init": self.recipe.t_init, **codes})

    def student(self, weights: dict[str, Tensor]) -> OneStepGenerator:
        """A model of its own with the given backbone."""
        denoiser = self.network()
        checkpoint.load_module(denoiser.backbone, weights)
        changes = {
            "backbone": self.backbone.spec(),
            "sampler": self.sampler.spec(),
            "decoder": self.recipe.decoder.spec(),
            "condition_dropout": 0.0,
        }
        architecture = self.model.architecture.replace(**changes)
        recipe = Recipe.from_dict({**self.recipe.to_dict(), "model": self.model.recipe.model.model_dump(mode="json")})
        return OneStepGenerator(denoiser, self.model.tokenizer, architecture, recipe)

    def save(self, stage: StageRun) -> None:
        """Write a checkpoint."""
        values = {
            "stage": stage.number,
            "best": self.best.where(),
            "ticks": stage.ema.ticks,
            "seconds": self.clock.seconds,
            "plugins": plugins_of(self.recipe, self.model.architecture),
        }
        state = State(values=values)
        for part, tensors in stage.tensors().items():
            state.put(part, tensors)
        state.put("best", self.best.weights)
        done_before = sum(stage.steps for stage in self.recipe.stages[: stage.number])
        checkpoint.save(self.folder.checkpoints, done_before + stage.done, state)
