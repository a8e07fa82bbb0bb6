"""The family's own checkpoints: a folder with weights.npz, settings.json and the tokenizer."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dlkit import backbones, decoders, samplers, spaces, teachers
from dlkit.data.sequences import Overlong
from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.denoiser import Denoiser
from dlkit.diffusion import processes
from dlkit.diffusion.parameterization import Source
from dlkit.errors import UserError
from dlkit.files import read_json, write_json
from dlkit.part import part_of, validated
from dlkit.recipe import Fit
from dlkit.teachers._base import Key, Original, ReadOptions, TeacherParts

WEIGHTS, SETTINGS = "weights.npz", "settings.json"
TABLE, TIED = "space.word_embedding.weight", "space.lm_head.weight"  # one table under two names


class Settings(BaseModel):
    """What ``settings.json`` says of a teacher."""

    model_config = ConfigDict(extra="forbid")

    family: part_of(teachers.registry)  # type: ignore[valid-type]
    space: part_of(spaces.registry)  # type: ignore[valid-type]
    process: part_of(processes.registry)  # type: ignore[valid-type]
    backbone: part_of(backbones.registry)  # type: ignore[valid-type]
    prediction: Source = "x0"
    seq_len: int = Field(ge=8)
    fit: Fit = Fit()
    decoder: part_of(decoders.registry)  # type: ignore[valid-type]
    sampler: part_of(samplers.registry)  # type: ignore[valid-type]
    overlong: Overlong = "truncate"

    def names(self, vocab_size: int) -> set[str]:
        """The tensors of such a teacher; no memory is taken for them."""
        with torch.device("meta"):
            space: Any = self.space.build(vocab_size)
            denoiser = Denoiser(space, self.process, self.backbone.build(space.dim, vocab_size))  # type: ignore[arg-type]
        return denoiser.state_dict().keys() - {TIED}


def recognises(path: Path) -> bool:
    """Whether a checkpoint of the family lies there, by the names of its files."""
    return (path / WEIGHTS).is_file() and (path / SETTINGS).is_file()


def write(folder: Path, parts: TeacherParts) -> None:
    """Write a teacher in the family's format into an existing folder."""
    arrays = {name: tensor.float().cpu().numpy() for name, tensor in parts.state.items() if name != TIED}
    np.savez(folder / WEIGHTS, **arrays)
    settings = Settings(**{name: getattr(parts, name) for name in Settings.model_fields})
    write_json(folder / SETTINGS, settings.model_dump(mode="json"))
    parts.tokenizer.save(folder)


def read(folder: Path, options: ReadOptions) -> Original:
    """A teacher in the family's format.

    Raises:
        UserError: a file is missing or damaged, or weights, settings and tokenizer do not belong together.
    """
    settings = validated(Settings, read_json(folder / SETTINGS), str(folder / SETTINGS))
    tokenizer = Tokenizer.load(folder) if options.tokenizer is None else make_tokenizer(options.tokenizer)
    state, wanted = read_weights(folder / WEIGHTS), settings.names(tokenizer.vocab_size)
    missing, unused = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing:
        raise UserError(f"{folder / WEIGHTS} lacks {', '.join(missing)}; copy it again from its source")
    if unused and not options.allow_unused:
        raise UserError(f"{folder / WEIGHTS} has the unknown {', '.join(unused)}; --allow-unused leaves them out")
    rows = len(state[TABLE])
    if tokenizer.vocab_size != rows:
        raise UserError(f"{folder}: its tokenizer has {tokenizer.vocab_size} ids, its table {rows}; give --tokenizer")
    keys = [Key(name, "unused" if name in unused else "used", tuple(state[name].shape)) for name in sorted(state)]
    parts = TeacherParts(
        settings.space,
        settings.process,
        settings.backbone,
        settings.seq_len,
        tokenizer,
        options.tokenizer or str(folder),
        {name: state[name] for name in wanted} | {TIED: state[TABLE]},
        settings.fit.model_dump(mode="json"),
        settings.prediction,
        settings.family,
        settings.decoder,
        settings.sampler,
        settings.overlong,
    )
    return Original(folder / WEIGHTS, parts, keys, notes(parts))


def notes(parts: TeacherParts) -> Sequence[str]:
    return (f"tokenizer: {parts.tokenizer_spec}, {parts.tokenizer.vocab_size} ids", f"seq_len: {parts.seq_len}")


def read_weights(file: Path) -> dict[str, Tensor]:
    """The arrays of a file; pickled objects in it are refused, not loaded."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except FileNotFoundError:
        raise UserError(f"{file} is missing; is {file.parent} a checkpoint of the anchor family?") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is damaged ({error}); copy it again from its source") from None
