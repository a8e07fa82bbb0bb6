"""From an official DiffuSeq or Diffusion-LM checkpoint to a teacher's parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit import schedules
from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion import time_samplers
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.errors import UserError
from dlkit.part import from_spec, validated
from dlkit.spaces.embedding import EmbeddingSpec
from dlkit.teachers._base import Key, Original, ReadOptions, TeacherParts, Tie
from dlkit.teachers._diffuseq_bert import attention
from dlkit.teachers._diffuseq_run import ARGUMENTS, Arguments, Beside, DiffuseqRun
from dlkit.teachers._tensors import plain_weights, read_tensors

TABLES = {"lm_head": "lm_head.weight", "ema": "word_embedding.weight"}
USUAL_TIE: Tie = "lm_head"
POSITIONS = "position_ids"
MEAN = "mean_embed"
TIME_SAMPLERS = {"uniform": "uniform", "lossaware": "loss_second_moment", "fixstep": "low_noise_twice"}
LARGEST_DIFFERENCE = 1e-6


def official_name(name: str) -> str:
    """The original's name of a tensor in a :class:`dlkit.denoiser.Denoiser`'s state."""
    return MEAN if name.endswith(MEAN) else name.partition(".")[2]


def read_run(path: Path, options: ReadOptions) -> Original:
    """Read a run folder, or one checkpoint of it.

    Raises:
        UserError: see :meth:`dlkit.teachers._diffuseq_run.DiffuseqRun.find`; or the weights are damaged, not finite, of
            sizes that do not fit each other, ``training_args.json`` or the tokenizer, or hold names that are unknown or
            lack some.
    """
    tie = options.tie or USUAL_TIE
    run = DiffuseqRun.find(path, options.step)
    tensors, beside = read_tensors(run.file)
    sizes = _sizes(tensors, run)
    heads = attention(run, sizes, options)
    process = _process(run, shifted=MEAN in tensors)
    parts = _Parts.of(run, sizes, process, heads.heads, heads.dropout)
    tokenizer, spec = run.tokenizer(options)
    if tokenizer.vocab_size != sizes["vocab"]:
        raise UserError(
            f"the tokenizer {spec} has {tokenizer.vocab_size} ids, the embedding of {run.file} {sizes['vocab']}; "
            "give the tokenizer the model was trained with by --tokenizer"
        )
    names = parts.official_names()
    keys = _table(names, tensors, beside, options, run.file)
    tensors = {name: plain_weights(tensors[name], name, run.file) for name in names if name != POSITIONS}
    found = TeacherParts(
        parts.space,
        parts.process,
        parts.backbone,
        run.arguments.seq_len,
        tokenizer,
        spec,
        _state(names, tensors, tie),
        _fit(run),
        **{name: getattr(run.arguments.dlkit, name) for name in Beside.model_fields},
    )
    difference = float((tensors[TABLES["ema"]] - tensors[TABLES["lm_head"]]).abs().max())
    size_note = ", ".join(f"{name} {size}" for name, size in sizes.items())
    notes = (
        *run.notes,
        f"sizes: {size_note}; seq_len {run.arguments.seq_len}",
        heads.note,
        f"tokenizer: {spec}, {tokenizer.vocab_size} ids",
        f"tied table: {TABLES[tie]} (--tie {tie}); the two copies differ by up to {difference:.3g}",
        *_not_in_a_recipe(run.arguments),
    )
    return Original(run.file, found, keys, notes, _warnings(difference, tie))


def _warnings(difference: float, tie: Tie) -> tuple[str, ...]:
    if difference <= LARGEST_DIFFERENCE:
        return ()
    meaning = {
        "lm_head": "the raw table, which is what the original's own loader ends up with",
        "ema": "the averaged table, which the original's own loader overwrites",
    }
    return (
        f"{TABLES['ema']} (averaged) and {TABLES['lm_head']} (raw) differ by up to {difference:.3g}; "
        f"taken is {meaning[tie]} (tie={tie})",
    )


def _sizes(tensors: dict[str, Tensor], run: DiffuseqRun) -> dict[str, int]:
    """The network's sizes as its weights tell them, in agreement with ``training_args.json``."""

    def size(name: str, axis: int) -> int:
        tensor = tensors.get(name)
        if tensor is None:
            raise UserError(f"{run.file} lacks {name}; it is no checkpoint of DiffuSeq or Diffusion-LM")
        if tensor.ndim != 2:
            raise UserError(f"{run.file}: {name} has shape {tuple(tensor.shape)}, not two dimensions")
        return tensor.shape[axis]

    prefix = "input_transformers.layer."
    sizes = {
        "vocab": size("word_embedding.weight", 0),
        "dim": size("word_embedding.weight", 1),
        "layers": len({name[len(prefix) :].partition(".")[0] for name in tensors if name.startswith(prefix)}),
        "hidden": size("time_embed.2.weight", 0),
        "ff": size(f"{prefix}0.intermediate.dense.weight", 0),
        "time_dim": size("time_embed.0.weight", 1),
        "max_positions": size("position_embeddings.weight", 0),
    }
    told = {"vocab_size": sizes["vocab"], "hidden_dim": sizes["dim"], "hidden_t_dim": sizes["time_dim"]}
    for name, found in told.items():
        said = getattr(run.arguments, name)
        if said not in (None, found):
            raise UserError(
                f"{run.folder / ARGUMENTS} says {name}={said}, the weights in {run.file.name} say {found}; "
                "restore the file that belongs to this checkpoint"
            )
    if run.arguments.seq_len > sizes["max_positions"]:
        most = f"{run.file.name} has {sizes['max_positions']} positions"
        raise UserError(f"{run.folder / ARGUMENTS} says seq_len={run.arguments.seq_len}, but {most}")
    return sizes


@dataclass(frozen=True)
class _Parts:
    """The parts that sizes and arguments describe."""

    space: EmbeddingSpec
    process: GaussianProcess
    backbone: DiffuseqSpec
    vocab_size: int

    @classmethod
    def of(
        cls, run: DiffuseqRun, sizes: dict[str, int], process: GaussianProcess, heads: int, attention_dropout: float
    ) -> "_Parts":
        arguments, where = run.arguments, str(run.file)
        settings = {key: sizes[key] for key in ("layers", "hidden", "ff", "time_dim", "max_positions")}
        settings |= {"heads": heads, "dropout": arguments.dropout, "attention_dropout": attention_dropout}  # type: ignore[dict-item]
        return cls(
            validated(EmbeddingSpec, {"dim": sizes["dim"]}, where),
            process,
            validated(DiffuseqSpec, settings, where),
            sizes["vocab"],
        )

    def official_names(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Official names of the network's tensors, with those in dlkit and their shapes; no memory is taken."""
        with torch.device("meta"):
            space = self.space.build(self.vocab_size)
            state = Denoiser(space, self.process, self.backbone.build(space.dim, space.vocab_size)).state_dict()
        return {official_name(name): (name, tuple(tensor.shape)) for name, tensor in state.items()}


def _process(run: DiffuseqRun, shifted: bool) -> GaussianProcess:
    """The schedule that the arguments name, around a learned mean if the weights have one, as those of DiffuSeq-v2.

    Raises:
        UserError: the schedule is not known, or not with so many steps.
    """
    arguments = run.arguments
    schedule = {"name": arguments.noise_schedule, "steps": arguments.diffusion_steps}
    try:
        known = from_spec(schedules.registry, schedule)
        if not shifted:
            return GaussianProcess(schedule=known)
        return MeanShift(schedule=known, absorb_rate=arguments.denoise_rate if arguments.denoise else 0.0)
    except UserError as error:
        raise UserError(f"{run.folder / ARGUMENTS}: {error}") from None


Names = dict[str, tuple[str, tuple[int, ...]]]


def _table(
    names: Names, tensors: dict[str, Tensor], beside: list[str], options: ReadOptions, file: Path
) -> tuple[Key, ...]:
    """What becomes of every tensor. Raises ``UserError`` for one that is missing, unknown or of another shape."""
    unused = [*(name for name in tensors if name not in names), *beside]
    missing = [name for name in names if name not in tensors]
    lacking = [name for name in missing if name != POSITIONS]
    if lacking:
        raise UserError(f"{file} lacks {_some(lacking)}; it is cut short or no checkpoint of DiffuSeq")
    if unused and not options.allow_unused:
        raise UserError(f"{file} has the unknown {_some(unused)}; --allow-unused leaves out what has no place")
    for name, (_, shape) in names.items():
        if name in tensors and tuple(tensors[name].shape) != shape:
            found = tuple(tensors[name].shape)
            raise UserError(f"{file}: {name} has shape {found}, but its other tensors imply {shape}; sizes are mixed")
    remarks = {POSITIONS: "counts 0, 1, 2, ...", **_remark_on_the_tie(options.tie or USUAL_TIE)}
    present = [
        Key(
            name,
            "unused" if name not in names else "ignored" if name in remarks else "used",
            tuple(tensor.shape),
            "--allow-unused" if name not in names else remarks.get(name, ""),
        )
        for name, tensor in tensors.items()
    ]
    return (
        *present,
        *(Key(name, "missing", None, "is not needed") for name in missing),
        *(Key(name, "unused", None, "beside the weights") for name in beside),
    )


def _remark_on_the_tie(tie: Tie) -> dict[str, str]:
    (loser,) = (table for policy, table in TABLES.items() if policy != tie)
    return {loser: f"tied to {TABLES[tie]} (--tie {tie})"}


def _state(names: Names, weights: dict[str, Tensor], tie: Tie) -> dict[str, Tensor]:
    """The weights under dlkit's names."""
    taken = {name: TABLES[tie] if name in TABLES.values() else name for name in names}
    state = {ours: weights[taken[official]] for official, (ours, _) in names.items() if official != POSITIONS}
    ours, shape = names[POSITIONS]
    return state | {ours: torch.arange(shape[-1])[None]}


def _fit(run: DiffuseqRun) -> dict[str, Any]:
    """How the original was fitted, as far as a Recipe can say it; ``batch_size`` is that of one process."""
    arguments = run.arguments
    optimizer = {
        "betas": [0.9, 0.999],
        "decay": "linear",
        "lr": _positive(arguments.learning_rate),
        "weight_decay": arguments.weight_decay,
        "clip": _positive(arguments.gradient_clipping),
    }
    fit = {
        "steps": None if run.step is None else max(run.step, 1),
        "batch_size": _positive(arguments.batch_size),
        "microbatch": _positive(arguments.microbatch),
        "ema": run.ema,
        "time_sampler": _time_sampler(arguments),
        "condition_dropout": arguments.condition_dropout,
        "optimizer": _known(optimizer),
    }
    return _known(fit)


def _time_sampler(arguments: Arguments) -> str | None:
    name = TIME_SAMPLERS.get(arguments.schedule_sampler or "")
    return name if name in time_samplers.names() else None


def _positive(number: float | None) -> float | None:
    """None for the -1 and 0 that mean "none" in the original."""
    return number if number is not None and number > 0 else None


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _not_in_a_recipe(arguments: Arguments) -> tuple[str, ...]:
    if arguments.schedule_sampler is None or _time_sampler(arguments) is not None:
        return ()
    return (f"schedule_sampler {arguments.schedule_sampler!r} is not known here: the Recipe says uniform",)


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
