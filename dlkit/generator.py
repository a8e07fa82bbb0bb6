"""What a user holds: a model that writes text, with everything it needs in one folder."""

import contextlib
import hashlib
import itertools
import json
import platform
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dlkit import __version__, backbones, decoders, samplers, spaces, teachers
from dlkit.data.sequences import merge_source
from dlkit.data.tokenizer import Tokenizer
from dlkit.decoders._base import Decoder
from dlkit.denoiser import Denoiser
from dlkit.diffusion import processes
from dlkit.diffusion.condition import Condition
from dlkit.errors import Notice, UserError
from dlkit.files import atomic_folder, read_json, write_json
from dlkit.metrics._mbr import mbr as choose_by_mbr
from dlkit.part import from_spec, part_of, plugins_of, validated
from dlkit.plugins import check_installed
from dlkit.randomness import Stream, hash64
from dlkit.recipe import Fit, Model, Recipe, Spec
from dlkit.samplers._base import Observer, Sampler
from dlkit.teachers._base import Original, ReadOptions, TeacherFamily, TeacherParts
from dlkit.teachers._sniff import family_of, readable, sniff

_T = TypeVar("_T")

WEIGHTS = "model.safetensors"
RECIPE = "recipe.yaml"
_TIED = "space.lm_head.weight"


class Architecture(Spec):
    """What a folder's ``config.json`` says of how to rebuild the network.

    Attributes:
        family, space, process, backbone, decoder, sampler: parts; the sampler is the one used when none is named.
        vocab_size, seq_len, overlong: the text side.
    """

    family: part_of(teachers.registry)  # type: ignore[valid-type]
    space: part_of(spaces.registry)  # type: ignore[valid-type]
    process: part_of(processes.registry)  # type: ignore[valid-type]
    backbone: part_of(backbones.registry)  # type: ignore[valid-type]
    decoder: part_of(decoders.registry)  # type: ignore[valid-type]
    sampler: part_of(samplers.registry)  # type: ignore[valid-type]
    vocab_size: int = Field(ge=1, le=10_000_000)
    seq_len: int = Field(ge=8)
    overlong: Literal["truncate", "refuse"] = "truncate"

    @model_validator(mode="after")
    def _backbone_is_long_enough(self) -> Self:
        most = getattr(self.backbone, "max_positions", self.seq_len)
        if self.seq_len > most:
            raise ValueError(f"seq_len={self.seq_len} is more than backbone.max_positions={most}")
        return self

    def build(self, seed: int = 0) -> Denoiser:
        """A network with fresh weights, a function of the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            space = self.space.build(self.vocab_size)
            return Denoiser(space, self.process, self.backbone.build(space.dim))


class TextModel:
    """A denoiser that reads and writes text.

    Args:
        denoiser: the network.
        tokenizer: its tokens.
        architecture: its settings.
        recipe: how it was made.
    """

    kind: ClassVar[str] = ""

    def __init__(self, denoiser: Denoiser, tokenizer: Tokenizer, architecture: Architecture, recipe: Recipe) -> None:
        self.denoiser = denoiser.eval()
        self.tokenizer = tokenizer
        self.architecture = architecture
        self.recipe = recipe

    @property
    def device(self) -> torch.device:
        return self.denoiser.space.table.device

    def to(self, device: str | torch.device) -> Self:
        """Move the weights."""
        self.denoiser.to(device)
        return self

    def default_sampler(self, steps: int | None) -> Sampler:
        """The sampler used when none is named."""
        sampler = self.architecture.sampler
        return sampler if steps is None else sampler.replace(steps=steps)

    def choose_sampler(self, sampler: str | dict[str, Any] | Sampler | None, steps: int | None) -> Sampler:
        """Turn what the caller said into a sampler.

        Raises:
            UserError: no such sampler, or a number of steps it cannot take.
        """
        if steps is not None and steps < 1:
            raise UserError(f"steps must be at least 1, not {steps}")
        if sampler is None:
            chosen = self.default_sampler(steps)
        else:
            chosen = from_spec(samplers.registry, sampler)
            if steps is not None:
                chosen = from_spec(samplers.registry, {**chosen.spec(), "steps": steps})
        most = getattr(self.architecture.process.noise_schedule, "steps", None)
        if most is not None and chosen.steps > most:
            raise UserError(f"steps={chosen.steps} is more than the {most} steps this model was trained with")
        chosen.calls(self.architecture.process.noise_schedule)  # refuses what this schedule cannot do, before any work
        return chosen

    def generate(
        self, sources: Sequence[str], *, num_samples: int = 1, mbr: int = 0, **options: Any
    ) -> list[list[str]]:
        """Write texts.

        With ``mbr=K``, K candidates are written for each source, and of these minimum Bayes risk chooses one: the text
        that the others agree with most, by sentence BLEU.

        Args:
            sources: texts to write for.
            num_samples: texts for each.
            mbr: candidates for minimum Bayes risk; 0 chooses nothing.
            options: see :meth:`generate_tokens`.

        Returns:
            for each source its texts, ``num_samples`` or one chosen: what stands between [CLS] and the first [SEP].

        Raises:
            UserError: a source does not fit, or an argument is out of range.
        """
        count = candidates(num_samples, mbr)
        groups = self.generate_tokens(sources, num_samples=count, **options)
        written = self.tokenizer.decode_batch([self.until_end(ids) for group in groups for ids in group])
        texts = _grouped(written, count)
        return choose_by_mbr(texts) if mbr else texts

    @torch.inference_mode()
    def generate_tokens(
        self,
        sources: Sequence[str],
        *,
        num_samples: int = 1,
        steps: int | None = None,
        sampler: str | dict[str, Any] | Sampler | None = None,
        seed: int = 0,
        batch_size: int = 256,
        decoder: str | dict[str, Any] | Decoder | None = None,
        observe: Observer | None = None,
    ) -> list[list[list[int]]]:
        """The tokens of all generated positions, padding included.

        All that is random in a text is a function of (seed, source, number of the sample), whatever its batch mates.

        Args:
            sources: texts to write for.
            num_samples: texts for each.
            steps: network calls; None is the model's own default.
            sampler: name or settings; None is the model's own.
            seed: of the noise, and of what the decoder draws.
            batch_size: texts written at once.
            decoder: name or settings; None is the model's own.
            observe: called after each network call, see :class:`dlkit.samplers._base.Sampler`.

        Raises:
            UserError: a source does not fit, or an argument is out of range.
        """
        if num_samples < 1 or batch_size < 1:
            raise UserError(f"num_samples and batch_size must be at least 1, not {num_samples} and {batch_size}")
        chosen = self.choose_sampler(sampler, steps)
        reader: Decoder = self.architecture.decoder if decoder is None else from_spec(decoders.registry, decoder)
        rows, masks = self._encode(sources)
        keys = sample_keys(sources, num_samples)
        wanted = torch.arange(len(sources)).repeat_interleave(num_samples)
        written: list[list[int]] = []
        for part in torch.arange(len(wanted)).split(batch_size):
            ids, mask = rows[wanted[part]].to(self.device), masks[wanted[part]].to(self.device)
            own = keys[part].to(self.device)
            x = self._states(chosen, ids, mask, own, seed, observe)
            written += _where(self.read(x, own, seed, reader), mask)
        return _grouped(written, num_samples)

    def read(
        self, x: Float[Tensor, "b l d"], keys: Int[Tensor, " b"], seed: int = 0, decoder: Decoder | None = None
    ) -> Int[Tensor, "b l"]:
        """The tokens of states; what a decoder draws is a function of (seed, key, position).

        Args:
            x: states.
            keys: of the samples, from :func:`sample_keys`.
            seed: of generation.
            decoder: None is the model's own.
        """
        u = Stream(seed, "decode").uniform(keys.to(x.device), x.shape[1])
        return (decoder or self.architecture.decoder).decode(x, self.denoiser.space, u)

    def _encode(self, sources: Sequence[str]) -> tuple[Int[Tensor, "n l"], Tensor]:
        arch, tok = self.architecture, self.tokenizer
        if isinstance(sources, str):
            raise UserError("sources must be a list of texts, not one text; write [text]")
        merged = [
            merge_source(
                ids, arch.seq_len, sep_id=tok.sep_id, pad_id=tok.pad_id, overlong=arch.overlong, where=f"source {n + 1}"
            )
            for n, ids in enumerate(tok.encode_batch(list(sources)))
        ]
        ids = torch.tensor([row for row, _ in merged], dtype=torch.int64).reshape(-1, arch.seq_len)
        mask = torch.tensor([row for _, row in merged], dtype=torch.bool).reshape(-1, arch.seq_len)
        return ids, mask

    def _states(
        self, sampler: Sampler, ids: Tensor, mask: Tensor, keys: Tensor, seed: int, observe: Observer | None
    ) -> Tensor:
        space = self.denoiser.space
        stream = Stream(seed, "generate")
        cond = Condition(space.embed(ids), mask)
        shape = (ids.shape[1], space.dim)
        return sampler.sample(self.denoiser, cond, lambda k: stream.at(k).normal(keys, *shape), observe)

    def until_end(self, ids: list[int]) -> list[int]:
        """The text between a leading [CLS] mark and the first [SEP]."""
        ids = ids[1:] if ids and ids[0] == self.tokenizer.cls_id else ids
        return list(itertools.takewhile(lambda token: token != self.tokenizer.sep_id, ids))

    def fingerprint(self) -> str:
        """A hash of the weights and the settings; a plugin's version does not change it."""
        settings = {key: value for key, value in self.config().items() if key != "plugins"}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(self.denoiser.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {
            "format": 1,
            "kind": self.kind,
            **self.architecture.model_dump(mode="json"),
            "versions": {"dlkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
            "plugins": plugins_of(self.architecture, self.recipe),
        }

    def write(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the model's files into an existing folder; ``dtype`` converts floating weights on the way."""
        state = {
            name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
            for name, tensor in self.denoiser.state_dict().items()
            if name != _TIED
        }
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        write_json(folder / "config.json", self.config())
        self.recipe.to_yaml(folder / RECIPE)
        self.tokenizer.save(folder)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the model folder atomically. Raises ``UserError`` where it cannot be written."""
        with atomic_folder(folder) as temporary:
            self.write(temporary, dtype)

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str = "cpu") -> Self:
        """Read a model folder, or the run folder that holds one.

        Raises:
            UserError: the folder is missing, of another kind, incomplete or damaged.
        """
        folder = model_folder(path)
        config = _read_config(folder)
        if config.get("format") != 1:
            found = config.get("format")
            raise UserError(f"{folder / 'config.json'} has format {found!r}; this version reads format 1")
        if cls.kind and config.get("kind") != cls.kind:
            kind = config.get("kind")
            raise UserError(f"{folder} holds a {kind}, not a {cls.kind}; give the folder of a {cls.kind}")
        check_installed(config.get("plugins"), str(folder))
        architecture = _architecture(config, folder)
        _refuse_differences(_implied(architecture), _stored(folder / WEIGHTS), folder / WEIGHTS)
        denoiser = architecture.build()
        _load_weights(denoiser, folder / WEIGHTS)
        tokenizer = Tokenizer.load(folder)
        if tokenizer.vocab_size > architecture.vocab_size:
            raise UserError(
                f"{folder}: its tokenizer has {tokenizer.vocab_size} ids, its network {architecture.vocab_size}; "
                "restore the tokenizer the model was trained with"
            )
        return cls(denoiser, tokenizer, architecture, Recipe.from_yaml(folder / RECIPE)).to(device)


class Teacher(TextModel):
    """A diffusion language model that needs many network calls; DDIM unless told otherwise."""

    kind = "teacher"

    @classmethod
    def from_parts(cls, family: TeacherFamily, parts: TeacherParts) -> Self:
        """The teacher that was found in an official checkpoint; its Recipe says as much as is known of how it was made.

        Args:
            family: whose checkpoint it was; the parts may hold it with other settings.
            parts: what it is made of.

        Raises:
            UserError: a setting of the original has no place in a Recipe, or its tensors do not fit its settings.
        """
        model = {
            "family": parts.family or family,
            "space": parts.space,
            "process": parts.process,
            "backbone": parts.backbone,
            "seq_len": parts.seq_len,
        }
        recipe = Recipe(model=Model(**model, tokenizer=parts.tokenizer_spec), fit=Fit(**parts.fit))
        architecture = Architecture(
            **model, vocab_size=parts.tokenizer.vocab_size, decoder=recipe.decoder, sampler="ddim"
        )
        denoiser = architecture.build()
        try:
            denoiser.load_state_dict(parts.state)
        except RuntimeError as error:  # of torch, with one line for each tensor
            raise UserError(f"its tensors do not fit its settings: {' '.join(str(error).split())}") from None
        return cls(denoiser, parts.tokenizer, architecture, recipe)

    def parts(self) -> TeacherParts:
        """What this teacher is made of, for writing it in another format."""
        arch = self.architecture
        return TeacherParts(
            space=arch.space,
            process=arch.process,
            backbone=arch.backbone,
            seq_len=arch.seq_len,
            tokenizer=self.tokenizer,
            tokenizer_spec=self.recipe.model.tokenizer,
            state=self.denoiser.state_dict(),
            fit=self.recipe.fit.model_dump(mode="json"),
            family=arch.family,
        )


class OneStepGenerator(TextModel):
    """A distilled student: one network call, or a few with re-noising between them."""

    kind = "student"

    def default_sampler(self, steps: int | None) -> Sampler:
        sampler = self.architecture.sampler
        if steps is None or steps == sampler.steps:
            return sampler
        return from_spec(samplers.registry, {"name": "renoise", "steps": steps, "t_init": sampler.t_init})


def load(path: str | Path, device: str = "cpu") -> Teacher | OneStepGenerator:
    """Whichever kind of model the folder holds; an official checkpoint is a teacher."""
    if official_family(path) is not None:
        return load_teacher(path, device)
    kind = _read_config(model_folder(path)).get("kind")
    kinds = {"teacher": Teacher, "student": OneStepGenerator}
    if kind not in kinds:
        raise UserError(f"{path}: config.json names no known kind of model ({kind!r}); known: {', '.join(kinds)}")
    return kinds[kind].from_pretrained(path, device)


def model_folder(path: str | Path) -> Path:
    """The folder with ``config.json``: ``path`` itself, or the ``teacher`` or ``student`` below a run folder.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    for folder in (path, path / "student", path / "teacher"):
        if (folder / "config.json").is_file():
            return folder
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder of a model")
    raise UserError(f"{path} is not a model folder: it has no config.json; give the --out folder of a finished run")


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'} is not a model's: it holds no keys; restore the file from a copy")
    return config


def _architecture(config: dict[str, Any], folder: Path) -> Architecture:
    fields = {key: value for key, value in config.items() if key in Architecture.model_fields}
    missing = sorted(Architecture.model_fields.keys() - fields.keys() - {"overlong"})
    if missing:
        raise UserError(f"{folder / 'config.json'} lacks {', '.join(missing)}; restore the file from a copy")
    return validated(Architecture, fields, str(folder / "config.json"))


Shapes = dict[str, tuple[int, ...]]


def _implied(architecture: Architecture) -> Shapes:
    """The tensors that a network of this architecture has; no memory is taken for them."""
    with torch.device("meta"):
        state = architecture.build().state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if name != _TIED}


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Tell the user of errors that a file of weights makes."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{file} is missing; the model folder is incomplete") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged or cut short ({error}); copy it again from its source") from None


def _stored(file: Path) -> Shapes:
    """The tensors that a file says it holds."""
    with _reading(file), safe_open(file, "pt") as stored:
        return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118


def _refuse_differences(wanted: Shapes, found: Shapes, file: Path) -> None:
    """Refuse missing, unknown and misshapen tensors, before a network as large as config.json says is built."""
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unknown:
        found_out = {"lacks": missing, "has the unknown": unknown}
        complaints = [f"{verb} {_some(names)}" for verb, names in found_out.items() if names]
        raise UserError(f"{file} {' and '.join(complaints)}; it does not belong to this config.json")
    for name, shape in wanted.items():
        if shape != found[name]:
            raise UserError(f"{file}: {name} has shape {found[name]}, config.json implies {shape}")


def _load_weights(denoiser: Denoiser, file: Path) -> None:
    with _reading(file):
        state = load_file(file)
    denoiser.load_state_dict({**state, _TIED: state["space.word_embedding.weight"]})


def sample_keys(sources: Sequence[str], num_samples: int) -> Int[Tensor, " n"]:
    """What the random draws of each text depend on besides the seed; the samples of a source stand together."""
    hashes = [hash64(f"{source}\x1f{k}") for source in sources for k in range(num_samples)]
    return torch.tensor(hashes, dtype=torch.int64)


def candidates(num_samples: int, mbr: int) -> int:
    """Texts to write for each source, so that minimum Bayes risk can choose one of ``mbr``, or all count.

    Raises:
        UserError: there is nothing to choose from, or both numbers ask for several texts and differ.
    """
    if mbr < 0 or mbr == 1:
        raise UserError(f"mbr={mbr}: give 0 for none, or at least 2 candidates to choose from")
    if mbr and num_samples not in (1, mbr):
        raise UserError(f"mbr={mbr} with num_samples={num_samples}: give one of the two; mbr is the number of texts")
    return mbr or num_samples


def _where(tokens: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> list[list[int]]:
    """The tokens at the True positions of each row."""
    pairs = zip(tokens.tolist(), mask.tolist(), strict=True)
    return [list(itertools.compress(row, keep)) for row, keep in pairs]


def _grouped(items: list[_T], size: int) -> list[list[_T]]:
    return [items[k : k + size] for k in range(0, len(items), size)]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def official_family(path: str | Path) -> TeacherFamily | None:
    """The family whose official checkpoint lies at ``path``; None for a model folder, which holds its Recipe."""
    folders = (Path(path), Path(path) / "student", Path(path) / "teacher")
    return None if any((folder / RECIPE).is_file() for folder in folders) else sniff(Path(path))


def read_official(path: str | Path, options: ReadOptions) -> tuple[Teacher, Original]:
    """A teacher from an official checkpoint, and what was found in it.

    Raises:
        UserError: there is none at ``path``, or it cannot be read.
    """
    family = official_family(path) if options.family is None else family_of(options.family)
    if family is None:
        what = "is no official checkpoint" if Path(path).exists() else "does not exist"
        raise UserError(f"{path} {what}; give {readable()}")
    found = family.read(Path(path), options)
    return Teacher.from_parts(family, found.parts), found


def load_teacher(path: str | Path, device: str = "cpu", **options: Any) -> Teacher:
    """A teacher from its folder, or from an official checkpoint of any family: a run folder of DiffuSeq, say.

    Args:
        path: of the folder or file.
        device: where its weights go.
        options: for an official checkpoint, see :class:`dlkit.teachers._base.ReadOptions`. What the user should know of
            it is a :class:`dlkit.errors.Notice`.

    Raises:
        UserError: see :meth:`TextModel.from_pretrained` and :func:`read_official`.
    """
    if options.get("family") is None and official_family(path) is None:
        if options:
            raise UserError(f"{path} is no official checkpoint; {', '.join(options)} can only be said of one")
        return Teacher.from_pretrained(path, device)
    teacher, found = read_official(path, ReadOptions(**options))
    for warning in found.warnings:
        warnings.warn(warning, Notice, stacklevel=2)
    return teacher.to(device)


def load_student(path: str | Path, device: str = "cpu") -> OneStepGenerator:
    """A student from its folder. Raises ``UserError`` as :meth:`TextModel.from_pretrained` does."""
    return OneStepGenerator.from_pretrained(path, device)
