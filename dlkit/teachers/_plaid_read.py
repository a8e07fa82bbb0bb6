"""From the four files of an official Plaid checkpoint to a teacher's parts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dlkit import decoders, samplers, teachers
from dlkit.backbones.plaid import PlaidSpec
from dlkit.data.sequences import Layout, Overlong
from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.files import read_json
from dlkit.part import optional_part_of, validated
from dlkit.schedules.learned_gamma import LearnedGamma, MonotoneGamma
from dlkit.spaces.unit_norm import UnitNormSpec
from dlkit.teachers._base import Key, Original, ReadOptions, TeacherParts
from dlkit.teachers._tensors import plain_weights, read_tensors

PLACES = {
    "noise_schedule.pt": "schedule",
    "gamma_bounds.pt": "schedule",
    "embedding_matrix.pt": "space",
    "model.pt": "backbone",
}
BOUNDS = ("gamma_0", "gamma_1")
BESIDE = "dlkit.json"
TOKENIZERS = ("tokenizer.json", "owt2_tokenizer.json")
RATES = "rotary_emb.inv_freq"
LONG, SHORT, LARGE = 1024, 256, 1024  # positions of Plaid 1B, those of its small models, and the width between them

Tensors = dict[tuple[str, str], Tensor]
"""By file and name in it."""


class Beside(BaseModel):
    """What a model folder says and the original's files do not: in ``dlkit.json`` beside them.

    Attributes:
        seq_len: positions, which rotary embeddings do not tell.
        lowest: t_min of the schedule.
        family, decoder, sampler, overlong, layout: see :class:`dlkit.teachers._base.TeacherParts`.
        fit: section ``fit`` of the Recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seq_len: int | None = Field(default=None, ge=8)
    lowest: float = Field(default=0.001, gt=0.0, le=0.5)
    family: optional_part_of(teachers.registry) = None  # type: ignore[valid-type]
    decoder: optional_part_of(decoders.registry) = None  # type: ignore[valid-type]
    sampler: optional_part_of(samplers.registry) = None  # type: ignore[valid-type]
    overlong: Overlong | None = None
    layout: Layout = "packed"
    fit: dict[str, Any] = {"time_sampler": "vlb"}


def recognises(path: Path) -> bool:
    """Whether two or more of the four files are in the folder, or beside the one that is named."""
    folder = _folder(path)
    return sum((folder / name).is_file() for name in PLACES) >= 2


def read_files(path: Path, options: ReadOptions) -> Original:
    """Read a folder with the four files; a path of one of them means its folder.

    Raises:
        UserError: a file is missing, damaged, of other sizes than the others, lacks tensors or has unknown ones; the
            schedule is none; or the tokenizer is missing or another.
    """
    folder = _folder(path)
    beside = _beside(folder)
    tensors, outside = _read(folder)
    space, process, backbone, vocab_size = _parts(tensors, folder, beside, options)
    names = _official_names(space, process, backbone, vocab_size)
    keys = (*_table(names, tensors, options, folder), *outside)
    state = {ours: plain_weights(tensors[key], key[1], folder / key[0]) for key, (ours, _) in names.items()}
    _check_schedule(state, process, folder)
    tokenizer, spec = _tokenizer(folder, options, vocab_size)
    seq_len = beside.seq_len or (LONG if backbone.hidden >= LARGE else SHORT)
    parts = TeacherParts(
        space,
        process,
        backbone,
        seq_len,
        tokenizer,
        spec,
        state,
        beside.fit,
        prediction="prior_logits",
        family=beside.family,
        decoder=beside.decoder,
        sampler=beside.sampler or samplers.get("plaid")(),
        overlong=beside.overlong,
        layout=beside.layout,
    )
    notes = (
        f"sizes: vocab {vocab_size}, dim {space.dim}, layers {backbone.layers}, hidden {backbone.hidden}, "
        f"heads {backbone.heads}",
        f"seq_len {seq_len}: {f'by {BESIDE}' if beside.seq_len else 'as published for this width; no file tells it'}",
        f"noise: gamma from {float(state['schedule.gamma_0']):.4g} to {float(state['schedule.gamma_1']):.4g}",
        f"tokenizer: {spec}, {tokenizer.vocab_size} ids",
    )
    return Original(folder / "model.pt", parts, keys, notes)


def _folder(path: Path) -> Path:
    return path.parent if path.name in PLACES and path.is_file() else path


def _beside(folder: Path) -> Beside:
    file = folder / BESIDE
    return validated(Beside, read_json(file), str(file)) if file.is_file() else Beside()


def _read(folder: Path) -> tuple[Tensors, tuple[Key, ...]]:
    absent = [name for name in PLACES if not (folder / name).is_file()]
    if absent:
        raise UserError(
            f"{folder} lacks {' and '.join(absent)}; a checkpoint of Plaid is {', '.join(PLACES)}, all from one run"
        )
    tensors: Tensors = {}
    outside: list[Key] = []
    for file in PLACES:
        found, others = read_tensors(folder / file)
        tensors |= {(file, name): tensor for name, tensor in found.items()}
        outside += [Key(f"{file}: {name}", "unused", None, "beside the weights") for name in others]
    return tensors, tuple(outside)


def _parts(
    tensors: Tensors, folder: Path, beside: Beside, options: ReadOptions
) -> tuple[UnitNormSpec, GaussianProcess, PlaidSpec, int]:
    """The parts that the shapes tell."""

    def size(file: str, name: str, axis: int, ndim: int = 2) -> int:
        tensor = tensors.get((file, name))
        if tensor is None:
            raise UserError(f"{folder / file} lacks {name}; it is cut short or no file of Plaid")
        if tensor.ndim != ndim:
            raise UserError(f"{folder / file}: {name} has shape {tuple(tensor.shape)}, not {ndim} dimensions")
        return tensor.shape[axis]

    hidden = size("model.pt", "input_linear.weight", 0)
    layers = {name.split(".")[1] for _, name in tensors if name.startswith("blocks.")}
    heads = options.heads or max(hidden // (2 * max(size("model.pt", RATES, 0, 1), 1)), 1)
    sizes = {"layers": len(layers), "hidden": hidden, "heads": heads}
    units = size("noise_schedule.pt", "W1", 0)
    schedule = validated(LearnedGamma, {"hidden": units, "lowest": beside.lowest}, str(folder / "noise_schedule.pt"))
    return (
        validated(UnitNormSpec, {"dim": size("embedding_matrix.pt", "matrix", 1)}, str(folder / "embedding_matrix.pt")),
        GaussianProcess(schedule=schedule),
        validated(PlaidSpec, sizes, str(folder / "model.pt")),
        size("embedding_matrix.pt", "matrix", 0),
    )


Names = dict[tuple[str, str], tuple[str, tuple[int, ...]]]
"""File and name in it, with dlkit's name and the shape."""


def _official_names(space: UnitNormSpec, process: GaussianProcess, backbone: PlaidSpec, vocab_size: int) -> Names:
    with torch.device("meta"):
        table = space.build(vocab_size)
        network = backbone.build(space.dim, vocab_size)
        state = Denoiser(table, process, network, "prior_logits").state_dict()
    return {official_name(name): (name, tuple(tensor.shape)) for name, tensor in state.items()}


def official_name(name: str) -> tuple[str, str]:
    """The original's file of a tensor in a :class:`dlkit.denoiser.Denoiser`'s state, and its name there."""
    module, _, rest = name.partition(".")
    files = [file for file, place in PLACES.items() if place == module]
    return (files[-1] if rest in BOUNDS else files[0]), rest


def _table(names: Names, tensors: Tensors, options: ReadOptions, folder: Path) -> Iterator[Key]:
    """What becomes of every tensor. Raises ``UserError`` for one that is missing, unknown or of another shape."""
    for (file, name), (_, shape) in names.items():
        if (file, name) not in tensors:
            raise UserError(f"{folder / file} lacks {name}; it is cut short or no file of Plaid")
        found = tuple(tensors[file, name].shape)
        if found != shape:
            raise UserError(
                f"{folder / file}: {name} has shape {found}, but the other tensors imply {shape}; "
                "the files are of different runs"
            )
    for (file, name), tensor in tensors.items():
        known = (file, name) in names
        if not known and not options.allow_unused:
            raise UserError(f"{folder / file} has the unknown {name}; --allow-unused leaves out what has no place")
        yield Key(
            f"{file}: {name}", "used" if known else "unused", tuple(tensor.shape), "" if known else "--allow-unused"
        )


def _check_schedule(state: dict[str, Tensor], process: GaussianProcess, folder: Path) -> None:
    weights = process.noise_schedule.weights()
    assert isinstance(weights, MonotoneGamma)
    own = {name.partition(".")[2]: tensor for name, tensor in state.items() if name.startswith("schedule.")}
    try:
        weights.load_state_dict(own)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None


def _tokenizer(folder: Path, options: ReadOptions, vocab_size: int) -> tuple[Tokenizer, str]:
    spec = options.tokenizer or next((str(folder / name) for name in TOKENIZERS if (folder / name).is_file()), None)
    if spec is None:
        raise UserError(f"{folder} has no tokenizer; put {' or '.join(TOKENIZERS)} there or give one by --tokenizer")
    tokenizer = make_tokenizer(spec)
    if tokenizer.vocab_size != vocab_size:
        raise UserError(
            f"the tokenizer {spec} has {tokenizer.vocab_size} ids, the embedding in "
            f"{folder / 'embedding_matrix.pt'} {vocab_size}; "
            "give the tokenizer the model was trained with by --tokenizer"
        )
    return tokenizer, spec
