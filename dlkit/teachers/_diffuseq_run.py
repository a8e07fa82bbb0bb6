"""A DiffuSeq run folder: which checkpoint is meant, what ``training_args.json`` says, which tokenizer belongs to it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from dlkit import decoders, samplers, teachers
from dlkit.data.sequences import Overlong
from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.errors import UserError
from dlkit.files import read_json
from dlkit.part import optional_part_of, validated
from dlkit.teachers._base import ReadOptions

ARGUMENTS = "training_args.json"
VOCABULARY = "vocab.json"
_EMA = re.compile(r"ema_(\d*\.?\d+)_(\d+)\.pt")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


class Beside(BaseModel):
    """What a model folder says and the original does not know: written only where it is not what import would say.

    Attributes:
        family: with the settings that its loss has.
        decoder, sampler, overlong: see :class:`dlkit.teachers._base.TeacherParts`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: optional_part_of(teachers.registry) = None  # type: ignore[valid-type]
    decoder: optional_part_of(decoders.registry) = None  # type: ignore[valid-type]
    sampler: optional_part_of(samplers.registry) = None  # type: ignore[valid-type]
    overlong: Overlong | None = None


class Arguments(BaseModel):
    """What ``training_args.json`` says and dlkit needs; Diffusion-LM's names are understood too.

    Attributes:
        seq_len: positions; Diffusion-LM's ``image_size`` squared.
        hidden_dim, hidden_t_dim, vocab_size: sizes that must agree with the weights; None is not checked.
        diffusion_steps, noise_schedule: the process.
        vocab: ``bert`` for the tokenizer of ``config_name``, or the file of a vocabulary.
        config_name: of the transformer; a name on the hub or a local file or folder.
        dropout: of hidden states.
        denoise, denoise_rate: DiffuSeq-v2's absorbed tokens; its code's own rate is .2.
        predict_xstart, rescale_timesteps, learn_sigma, timestep_respacing, emb_scale_factor: must have the values that
            the published runs have, because they change what the network computes or is asked.
        learning_rate, batch_size, microbatch, weight_decay, schedule_sampler: how it was fitted.
        condition_dropout: dlkit's own, which the original does not know: share of samples without their source.
        dlkit: dlkit's own likewise.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    seq_len: int = Field(ge=8)
    hidden_dim: int | None = Field(default=None, validation_alias=AliasChoices("hidden_dim", "in_channel"))
    hidden_t_dim: int | None = Field(default=None, validation_alias=AliasChoices("hidden_t_dim", "num_channels"))
    vocab_size: int | None = None
    diffusion_steps: int = Field(ge=2)
    noise_schedule: str
    vocab: str | None = None
    config_name: str = "bert-base-uncased"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    denoise: bool = True
    denoise_rate: float = Field(default=0.2, ge=0, le=1)
    predict_xstart: bool = True
    rescale_timesteps: bool = True
    learn_sigma: bool = False
    timestep_respacing: str = ""
    emb_scale_factor: float = 1.0
    learning_rate: float | None = Field(default=None, validation_alias="lr")
    batch_size: int | None = None
    microbatch: int | None = None
    weight_decay: float | None = None
    gradient_clipping: float | None = None
    schedule_sampler: str | None = None
    condition_dropout: float | None = Field(default=None, ge=0, lt=1)
    dlkit: Beside = Beside()

    @model_validator(mode="before")
    @classmethod
    def _length_of_diffusion_lm(cls, data: Any) -> Any:
        if isinstance(data, dict) and "seq_len" not in data and isinstance(data.get("image_size"), int):
            return {**data, "seq_len": data["image_size"] ** 2}
        return data

    @model_validator(mode="after")
    def _is_as_published(self) -> Self:
        for name, value in _PUBLISHED.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name}={getattr(self, name)!r} is not supported; only {name}={value!r} is")
        return self


_PUBLISHED = {
    name: Arguments.model_fields[name].default
    for name in ("predict_xstart", "rescale_timesteps", "learn_sigma", "timestep_respacing", "emb_scale_factor")
}


@dataclass(frozen=True)
class DiffuseqRun:
    """A checkpoint with the files beside it.

    Attributes:
        file: the weights.
        arguments: what ``training_args.json`` says.
        step, ema: from the file's name, ``ema_RATE_STEP.pt``; None if it has another one.
        notes: how the file was chosen.
    """

    file: Path
    arguments: Arguments
    step: int | None
    ema: float | None
    notes: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.file.parent

    @classmethod
    def find(cls, path: Path, step: int | None) -> Self:
        """The checkpoint at ``path``, a run folder or one of its files.

        Raises:
            UserError: there is no such checkpoint, or ``training_args.json`` is missing or says what is not supported.
        """
        if step is not None and not path.is_dir():
            raise UserError(f"{path} is one checkpoint; leave --step out, or give its folder")
        folder = path if path.is_dir() else path.parent
        data = read_json(folder / ARGUMENTS)
        arguments = _arguments(data, str(folder / ARGUMENTS))
        file = _choose(path, step) if path.is_dir() else path
        named = _EMA.fullmatch(file.name)
        others = len(checkpoints(folder)) - 1 if path.is_dir() else 0
        chosen = f"checkpoint: {file.name}" + (f" (of {others + 1}; --step chooses another)" if others else "")
        return cls(
            file, arguments, int(named[2]) if named else None, float(named[1]) if named else None, notes=(chosen,)
        )

    def tokenizer(self, options: ReadOptions) -> tuple[Tokenizer, str]:
        """The tokenizer of the run, and where it is from. Raises ``UserError`` if it cannot be had."""
        spec = options.tokenizer or self._tokenizer_spec()
        try:
            return make_tokenizer(spec), spec
        except UserError as error:
            if options.tokenizer:
                raise
            raise UserError(f"{self.folder}: the run's tokenizer cannot be read; give --tokenizer ({error})") from None

    def _tokenizer_spec(self) -> str:
        """The run's own files first, then what ``vocab`` and ``config_name`` point to."""
        vocab = self.arguments.vocab
        if vocab == "bert":
            saved = [self.folder / name for name in _TOKENIZER_FILES]
            local = next((file for file in saved if file.is_file()), None) or self.local(self.arguments.config_name)
            return str(local or self.arguments.config_name)
        saved = [self.folder / VOCABULARY, *(self.folder / name for name in _TOKENIZER_FILES)]
        local = next((file for file in saved if file.is_file()), None) or (self.local(vocab) if vocab else None)
        if local is None:
            what = f"the vocabulary {vocab!r} of {ARGUMENTS} is" if vocab else "vocab.json is"
            raise UserError(
                f"{self.folder}: {what} not there; put vocab.json beside the checkpoint or give --tokenizer"
            )
        return str(local)

    def local(self, name: str) -> Path | None:
        """A file or folder that an argument names, looked for from the run folder and from here."""
        return next((path for path in (self.folder / name, Path(name)) if name and path.exists()), None)


def recognises(path: Path) -> bool:
    """Whether this is a run folder or one of its checkpoints, by the names of the files."""
    if path.is_dir():
        return (path / ARGUMENTS).is_file() or bool(checkpoints(path))
    of_a_run = _EMA.fullmatch(path.name) is not None or (path.parent / ARGUMENTS).is_file()
    return path.is_file() and path.suffix == ".pt" and of_a_run


def checkpoints(folder: Path) -> dict[tuple[int, float], Path]:
    """The averaged weights in a folder by step and rate."""
    found = [(file, _EMA.fullmatch(file.name)) for file in folder.iterdir() if file.is_file()]
    return {(int(named[2]), float(named[1])): file for file, named in found if named}


def _choose(folder: Path, step: int | None) -> Path:
    """The latest step, or the one asked for; of several rates the highest, which is the smoothest average."""
    found = checkpoints(folder)
    if not found:
        raise UserError(f"{folder} has no ema_*.pt; only averaged weights are taken from a folder, or name a file")
    if step is not None and step not in {key[0] for key in found}:
        steps = ", ".join(str(s) for s in sorted({key[0] for key in found}))
        raise UserError(f"{folder} has no checkpoint of step {step}; give --step with one of {steps}")
    return found[max(key for key in found if step in (None, key[0]))]


def _arguments(data: Any, where: str) -> Arguments:
    try:
        return validated(Arguments, data, where)
    except UserError as error:  # that of a part does not know the file
        told = str(error)
        raise UserError(told if told.startswith(where) else f"{where}: dlkit: {told}") from None
