"""What a teacher family is."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

from dlkit.data.sequences import Layout, Overlong
from dlkit.data.tokenizer import Tokenizer
from dlkit.denoiser import Denoiser
from dlkit.diffusion.parameterization import Source
from dlkit.errors import UserError
from dlkit.part import Part

Tie = Literal["lm_head", "ema"]
KeyStatus = Literal["used", "ignored", "missing", "unused"]


@dataclass(frozen=True)
class FitBatch:
    """What one evaluation of a teacher's training loss is made of.

    Attributes:
        ids: tokens; mask: True where the text is generated.
        t: times.
        normal: standard normal states [b l d] by the name of their use; a function of each sample alone. They are drawn
            where they are asked for, since one may be as large as everything else.
        uniform: uniforms on (0, 1) of a shape [b ...] likewise.
        done: updates before this one.
        weight: what the row's loss is multiplied by in the mean over the batch.
    """

    ids: Int[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]
    t: Float[Tensor, " b"]
    normal: Callable[[str], Float[Tensor, "b l d"]]
    uniform: Callable[..., Float[Tensor, "b ..."]]
    done: int = 0
    weight: Float[Tensor, " b"] | float = 1.0


@dataclass(frozen=True)
class TeacherParts:
    """What a teacher is made of, whatever format it is stored in.

    Attributes:
        space, process, backbone: parts.
        seq_len: positions of source and target together.
        tokenizer: with as many ids as the space has embeddings.
        tokenizer_spec: where the tokenizer came from, as ``model.tokenizer`` of a Recipe.
        state: the weights under the names of :class:`dlkit.denoiser.Denoiser`'s state.
        fit: settings of a Recipe's ``fit`` section, as plain data; what is not known is left out.
        prediction: what the backbone puts out.
        family: with the settings it was fitted with; None where a checkpoint does not tell them.
        decoder, sampler: those that are used unless others are named; None where a checkpoint does not tell them.
        overlong: what becomes of a text that does not fit; None likewise.
        layout: what a sequence is; None is pairs of source and target.
    """

    space: Part
    process: Part
    backbone: Part
    seq_len: int
    tokenizer: Tokenizer
    tokenizer_spec: str
    state: dict[str, Tensor]
    fit: dict[str, Any]
    prediction: Source = "x0"
    family: Part | None = None
    decoder: Part | None = None
    sampler: Part | None = None
    overlong: Overlong | None = None
    layout: Layout | None = None


@dataclass(frozen=True)
class Key:
    """What became of one tensor of an official checkpoint.

    Attributes:
        name: in the official file.
        status: ``used``; ``ignored``, because it says nothing new; ``missing``, which does no harm; or ``unused``,
            because the network has no place for it.
        shape: None if it is missing.
        remark: why.
    """

    name: str
    status: KeyStatus
    shape: tuple[int, ...] | None
    remark: str = ""

    def __str__(self) -> str:
        size = "-" if self.shape is None else " x ".join(map(str, self.shape)) or "scalar"
        return f"{self.status:<8} {self.name:<64} {size:<14} {self.remark}".rstrip()


@dataclass(frozen=True)
class Original:
    """An official checkpoint, read.

    Attributes:
        file: the file with the weights.
        parts: the teacher.
        keys: what became of every tensor.
        notes: where each choice came from, a line each.
        warnings: what the user should know, a line each.
    """

    file: Path
    parts: TeacherParts
    keys: Sequence[Key]
    notes: Sequence[str]
    warnings: Sequence[str] = field(default=())


@dataclass(frozen=True)
class ReadOptions:
    """What the user says of how an official checkpoint is to be read.

    Attributes:
        tokenizer: in place of the checkpoint's own, see :func:`dlkit.data.tokenizer.make_tokenizer`.
        tie: which copy of a tied table counts: that of ``lm_head``, or the averaged one; None is as usual.
        step: which of several checkpoints; None is the latest.
        heads: attention heads, which weights do not tell; None finds them out.
        allow_unused: leave out tensors that the network has no place for.
        family: whose checkpoint it is; None asks every family whether it knows it.
        raw: take the weights themselves, where a checkpoint has their average beside them.
    """

    tokenizer: str | None = None
    tie: Tie | None = None
    step: int | None = None
    heads: int | None = None
    allow_unused: bool = False
    family: str | None = None
    raw: bool = False

    def refuse_unread(self, path: Path, family: "TeacherFamily") -> None:
        """Raise ``UserError`` if something is said that the family's reader does not look at."""
        values = {name: getattr(self, name) for name in sorted(OPTIONS - family.reads)}
        said = [name for name, value in values.items() if value is not None and value is not False]
        if said:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in said)
            raise UserError(
                f"{path}: checkpoints of {family.registered_name!r} leave no choice to {options}; leave it out"
            )


OPTIONS = frozenset(option.name for option in fields(ReadOptions)) - {"family"}


class TeacherFamily(Part):
    """How teachers of one kind are fitted, and how their official checkpoints are read and written.

    Attributes:
        checkpoints: what an official checkpoint is, in words: "a run folder with ..."; empty if none can be read.
        reads: the :class:`ReadOptions` that ``read`` looks at; others are refused before it is called.
        usual: settings of a Recipe's ``model`` section that teachers of this family have unless others are named.
        usual_fit: the same of its ``fit`` section.
        usual_sampler: what a teacher of this family samples with where nothing else is named.
    """

    checkpoints: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = OPTIONS
    usual: ClassVar[dict[str, Any]] = {}
    usual_fit: ClassVar[dict[str, Any]] = {}
    usual_sampler: ClassVar[str] = "ddim"

    def refuse_times(self, sampler: Part) -> None:
        """Raise ``UserError`` where a time sampler does not serve the loss."""

    def lr_scale(self, name: str, parameter: Tensor) -> float:
        """What the learning rate of a parameter of the :class:`dlkit.denoiser.Denoiser` is multiplied by."""
        return 1.0

    @abstractmethod
    def losses(self, denoiser: Denoiser, batch: FitBatch) -> dict[str, Float[Tensor, " b"]]:
        """Terms of the training loss for each sample; their sum is what is minimised."""

    def recognises(self, path: Path) -> bool:
        """Whether ``path`` is an official checkpoint of this family, by the names of its files."""
        return False

    def read(self, path: Path, options: ReadOptions) -> Original:
        """An official checkpoint. Raises ``UserError`` if it is damaged, incomplete or of another kind."""
        raise UserError(f"{path}: no official checkpoints of {self.registered_name!r} can be read")

    def write(self, folder: Path, parts: TeacherParts) -> None:
        """Write a teacher into an existing folder, as the family's own code does.

        Raises:
            UserError: the format has no place for one of its parts.
        """
        raise UserError(f"teachers of {self.registered_name!r} have no official format; choose another --format")
