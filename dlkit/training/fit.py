"""Fitting a teacher."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.data.sequences import without_source
from dlkit.data.splits import has_split
from dlkit.data.tokenizer import make_tokenizer
from dlkit.denoiser import Denoiser
from dlkit.diffusion.time_samplers._base import TimeState
from dlkit.generator import Architecture, Teacher
from dlkit.part import plugins_of
from dlkit.randomness import Stream
from dlkit.recipe import Recipe
from dlkit.teachers._base import FitBatch
from dlkit.training import checkpoint
from dlkit.training.checkpoint import State
from dlkit.training.data import (
    Corpus,
    Draw,
    HeldOut,
    HeldOutTexts,
    all_texts,
    data_identity,
    read_examples,
    read_held_out,
)
from dlkit.training.ema import Ema
from dlkit.training.engine import Engine, TorchEngine, kernels
from dlkit.training.folder import Clock, RunFolder
from dlkit.training.health import largest, refuse_nan, rounded, time_bins
from dlkit.training.progress import Loop, Reporter
from dlkit.training.rates import groups, set_lr, tell_of_warmup
from dlkit.training.validation import check, metric_of, outputs, validate


@dataclass(frozen=True)
class FitResult:
    """What ``fit`` leaves behind.

    Attributes:
        teacher: folder of the teacher (averaged weights).
        log: file of the training log.
    """

    teacher: Path
    log: Path


def fit(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> FitResult:
    """Fit a teacher to a data folder.

    Args:
        recipe: its ``model``, ``fit``, ``decoder``, ``evaluation`` and ``run`` are used.
        data: folder with train.jsonl[.gz] and, for validation, valid.jsonl[.gz]; of texts without a source also .txt.
        out: folder of the run; the teacher is in ``out/teacher``.
        seed: of weights, order and noise.
        resume: go on from the last checkpoint.

    Raises:
        UserError: the data, the recipe or the output folder cannot be used.
    """
    reporter = reporter or Reporter()
    engine = TorchEngine(recipe.run)
    folder = RunFolder(out, "train", recipe, {"seed": seed, "data": data_identity(data)}, resume)
    trainer = Fitter(recipe, data, engine, seed, folder, reporter)
    with kernels(recipe.run):
        trainer.run()
    return FitResult(folder.path / "teacher", folder.log_file)


class Fitter:
    """The state and the loop of one fit."""

    def __init__(
        self, recipe: Recipe, data: str | Path, engine: Engine, seed: int, folder: RunFolder, reporter: Reporter
    ) -> None:
        self.recipe, self.settings, self.engine = recipe, recipe.fit, engine
        self.seed, self.folder, self.reporter = seed, folder, reporter
        model = recipe.model
        examples = read_examples(data, "train", model.layout)
        self.tokenizer = make_tokenizer(model.tokenizer, all_texts(examples))
        shape = (self.tokenizer, model.seq_len, model.overlong)
        self.corpus = Corpus(data, *shape, examples, model.layout)
        rows, unit = self.corpus.rows, "pairs" if model.layout == "pairs" else "texts"
        if rows.n_truncated:
            reporter.say(f"{rows.n_truncated} of {len(rows)} {unit} were cut to {model.seq_len} tokens")
        self.metric = metric_of(recipe.evaluation, model.layout)
        self.held_out: HeldOut | HeldOutTexts | None = None
        if has_split(data, "valid"):
            held_out = read_held_out(data, "valid", model.layout, recipe.evaluation.n_sources)
            self.held_out = held_out.normalised(*shape)
            check(self.held_out, self.metric, outputs(recipe.evaluation, model.layout))
        self.architecture = teacher_architecture(recipe, self.tokenizer.vocab_size)
        self.denoiser: Denoiser = engine.setup(self.architecture.build(seed))  # type: ignore[assignment]
        self.optimizer = engine.optimizer(
            groups(self.denoiser, model.family.lr_scale),  # type: ignore[attr-defined]
            self.settings.optimizer,
            self.settings.optimizer.lr,
        )
        engine.prepare(self.denoiser.backbone, learns=True)
        self.ema = Ema(self.denoiser, self.settings.ema, self.settings.ema_warmup)
        model.family.refuse_times(self.settings.time_sampler)  # type: ignore[attr-defined]
        self.times: TimeState = self.settings.time_sampler.start(self.architecture.process.noise_schedule)  # type: ignore[attr-defined]
        self.done, self.clock = 0, Clock()
        self._go_on()

    def run(self) -> None:
        """Fit to the end and write the teacher."""
        tell_of_warmup("fit.optimizer", self.settings.optimizer, self.settings.steps)
        with self.reporter.loop("fit", self.settings.steps, self.done) as loop:
            for step in range(self.done, self.settings.steps):
                values = self.step(step)
                self.done = step + 1
                self.after_step(values, loop)
        self.averaged().save_pretrained(self.folder.path / "teacher")

    def after_step(self, values: dict[str, Any], loop: Loop) -> None:
        """Log, validate and save where it is time to."""
        logs = self.is_logged(self.done)
        saves = self.done % self.recipe.run.checkpoint_every == 0 or self.done == self.settings.steps
        validates = self.held_out is not None and self.done % self.recipe.evaluation.every == 0
        if logs or saves or validates:
            self.denoiser.process.noise_schedule.check()  # which tells more than that a loss is no number
        numbers = rounded(values) if logs or saves else {}
        weights = largest(self.ema.state()) if saves or validates else {}  # the losses are those before the update
        refuse_nan(numbers | weights, self.done, "fit.optimizer.clip")
        if logs:
            self.folder.log(kind="fit", step=self.done, seconds=round(self.clock.seconds, 2), **numbers)
            loop.update(self.done, f"loss {numbers['loss']:.4f}")
        if validates:
            self.evaluate()
        if saves:
            self.save()

    def step(self, step: int) -> dict[str, Any]:
        """One update: draw, loss, gradient, AdamW, average."""
        draw = self.corpus.draw(self.settings.batch_size, step, self.seed, self.engine.device)
        fit = self.settings
        set_lr(self.optimizer, fit.optimizer, fit.optimizer.lr, step, fit.steps)
        torch.manual_seed(Stream(self.seed, "fit/dropout", step).integer())
        self.denoiser.train()
        t, weight = self.times.draw(Stream(self.seed, "fit/time", step).uniform(draw.index))
        weight = weight.float()
        seen: list[dict[str, Tensor]] = []
        for part in self.microbatches(draw, t, weight, step):
            with self.engine.autocast():
                terms = self.architecture.family.losses(self.denoiser, part)
            loss = torch.stack([(part.weight * term).mean() for term in terms.values()]).sum()
            self.engine.backward(loss * (len(part.t) / fit.batch_size))
            seen.append({name: term.detach() for name, term in terms.items()})
        norm = self.engine.step(self.optimizer, fit.optimizer.clip)
        self.ema.tick(self.denoiser)
        rows = {name: torch.cat([values[name] for values in seen]) for name in seen[0]}
        self.times.observe(t, torch.stack(list(rows.values())).sum(0))
        bins = time_bins(rows["mse"], t) if "mse" in rows and self.is_logged(step + 1) else {}
        means = {name: (weight * row).mean() for name, row in rows.items()}
        return {"loss": torch.stack(list(means.values())).sum(), **means, **bins, "grad_norm": norm}

    def is_logged(self, done: int) -> bool:
        return done % self.recipe.run.log_every == 0 or done == self.settings.steps

    @property
    def microbatch(self) -> int:
        """Samples of one backward pass."""
        return self.settings.microbatch or self.settings.batch_size

    def microbatches(self, draw: Draw, t: Tensor, weight: Tensor, step: int) -> Iterator[FitBatch]:
        """The batch in pieces, each with its source of random numbers."""
        whole = (self.seen_ids(draw, step), draw.batch.mask, t, weight, draw.index)
        for ids, mask, times, weights, index in zip(*(rows.split(self.microbatch) for rows in whole), strict=True):
            chance = self.chance(index, step, (ids.shape[1], self.denoiser.space.dim))
            yield FitBatch(ids, mask, times, *chance, step, weights)

    def chance(
        self, index: Tensor, step: int, shape: tuple[int, int]
    ) -> tuple[Callable[[str], Tensor], Callable[..., Tensor]]:
        """The random numbers of some samples, each a function of the sample's number and of the name of its use."""
        stream = lambda name: Stream(self.seed, f"fit/{name}", step)  # noqa: E731
        return (
            lambda name: stream(name).normal(index, *shape),
            lambda name, *shape: stream(name).uniform(index, *shape),
        )

    def seen_ids(self, draw: Draw, step: int) -> Tensor:
        """The tokens of a batch, some of them without their source."""
        share, ids = self.settings.condition_dropout, draw.batch.ids
        if not share:
            return ids
        dropped = Stream(self.seed, "fit/condition", step).uniform(draw.index) < share
        return without_source(ids, draw.batch.mask, dropped, self.tokenizer.pad_id)

    def averaged(self) -> Teacher:
        """The teacher with the averaged weights, as a model of its own."""
        denoiser = self.architecture.build(self.seed).to(self.engine.device)
        self.ema.copy_to(denoiser)
        return Teacher(denoiser, self.tokenizer, self.architecture, self.recipe)

    def evaluate(self) -> None:
        """Validate the averaged weights on a few texts."""
        assert self.held_out is not None
        settings = self.recipe.evaluation
        count, steps = outputs(settings, self.architecture.layout), settings.steps or 20
        score, values = validate(self.averaged(), self.held_out, self.metric, count, steps, self.seed)
        self.folder.log(kind="valid", step=self.done, **rounded(values))
        copies = f", copies {values['copy']:.2f}" if "copy" in values else ""
        self.reporter.say(f"step {self.done}: {self.metric.registered_name} {score:.4f}{copies}")

    def save(self) -> None:
        """Write a checkpoint."""
        plugins = plugins_of(self.recipe)
        state = State(values={"ticks": self.ema.ticks, "seconds": self.clock.seconds, "plugins": plugins})
        state.put("denoiser", checkpoint.module_state(self.denoiser))
        state.put("optimizer", checkpoint.optimizer_state(self.optimizer))
        state.put("ema", self.ema.state())
        state.put("times", self.times.tensors())
        checkpoint.save(self.folder.checkpoints, self.done, state)

    def _go_on(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        path = checkpoint.latest(self.folder.checkpoints)
        if path is None:
            self.folder.rewind(0)
            return
        state = checkpoint.load(path, ("step", "ticks", "seconds"))
        checkpoint.load_module(self.denoiser, state.part("denoiser"))
        checkpoint.load_optimizer(self.optimizer, state.part("optimizer"))
        self.ema.load(state.part("ema"), state.values["ticks"])
        self.times.load(state.part("times"))
        self.done, self.clock = state.values["step"], Clock(state.values["seconds"])
        self.folder.rewind(self.done)
        self.reporter.say(f"going on from step {self.done}")


def teacher_architecture(recipe: Recipe, vocab_size: int) -> Architecture:
    """What a Recipe's ``model`` section says, with the family's usual sampler."""
    model = recipe.model
    return Architecture(
        family=model.family,
        space=model.space,
        process=model.process.for_vocabulary(vocab_size),
        backbone=model.backbone,
        prediction=model.prediction,
        decoder=recipe.decoder,
        sampler=model.family.usual_sampler,  # type: ignore[attr-defined]
        vocab_size=vocab_size,
        seq_len=model.seq_len,
        overlong=model.overlong,
        layout=model.layout,
        condition_dropout=recipe.fit.condition_dropout,
    )
