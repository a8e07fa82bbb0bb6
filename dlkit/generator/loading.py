"""Models from folders and from official checkpoints."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from dlkit.errors import Notice, UserError
from dlkit.generator.folder import RECIPE, model_folder, read_config
from dlkit.generator.one_step import OneStepGenerator
from dlkit.generator.teacher import Teacher
from dlkit.part import validated
from dlkit.recipe import Fit
from dlkit.teachers._base import Original, ReadOptions, TeacherFamily
from dlkit.teachers._sniff import family_of, readable, sniff

_T = TypeVar("_T")


def load(path: str | Path, device: str = "cpu", *, dtype: torch.dtype | None = None) -> Teacher | OneStepGenerator:
    """Whichever kind of model the folder holds; an official checkpoint is a teacher. See :meth:`TextModel.to`."""
    if official_family(path) is not None:
        return load_teacher(path, device, dtype=dtype)
    kind = read_config(model_folder(path)).get("kind")
    kinds = {"teacher": Teacher, "student": OneStepGenerator}
    if kind not in kinds:
        raise UserError(f"{path}: config.json names no known kind of model ({kind!r}); known: {', '.join(kinds)}")
    return kinds[kind].from_pretrained(path, device, dtype=dtype)


def official_family(path: str | Path) -> TeacherFamily | None:
    """The family whose official checkpoint lies at ``path``; None for a model folder, which holds its Recipe."""
    folders = (Path(path), Path(path) / "student", Path(path) / "teacher")
    return None if any((folder / RECIPE).is_file() for folder in folders) else sniff(Path(path))


def read_official(path: str | Path, options: ReadOptions) -> tuple[Teacher, Original]:
    """A teacher from an official checkpoint, and what was found in it.

    Raises:
        UserError: there is none at ``path``, it cannot be read, or an option is given that its family does not read.
    """
    if not Path(path).exists():
        raise UserError(f"{path} does not exist; give {readable()}")
    family = official_family(path) if options.family is None else family_of(options.family)
    if family is None:
        raise UserError(f"{path} is no official checkpoint; give {readable()}")
    options.refuse_unread(Path(path), family)
    found = with_usable_fit(guarded(family, "read", family.read, Path(path), options))
    return Teacher.from_parts(family, found.parts, str(found.file)), found


def with_usable_fit(found: Original) -> Original:
    """Without the settings of its ``fit`` that no Recipe can have, a warning for each: they harm no weights."""
    where = f"{found.file}: left out of the Recipe's fit"
    fit, refused = _usable(found.parts.fit, where)
    return replace(found, parts=replace(found.parts, fit=fit), warnings=(*found.warnings, *refused))


def _usable(
    settings: dict[str, Any], where: str, inside: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> tuple[dict[str, Any], list[str]]:
    """The settings that are valid each in itself, and what is wrong with the others, in lines that begin with where."""
    kept, refused = {}, []
    for name, value in settings.items():
        if name == "optimizer" and isinstance(value, dict):
            kept[name], more = _usable(value, where, lambda one: {"optimizer": one})
            refused += more
            continue
        try:
            validated(Fit, inside({name: value}), where)
            kept[name] = value
        except UserError as error:  # that of a part does not know where
            told = str(error)
            refused.append(told if told.startswith(where) else f"{where}: {told}")
    return kept, refused


def guarded(family: TeacherFamily, what: str, call: Callable[..., _T], *given: Any) -> _T:
    """What a family makes of a checkpoint, whose path is the first thing ``given``.

    Raises:
        UserError: the family's own, or one that names the family whatever went wrong in it.
    """
    try:
        return call(*given)
    except (UserError, OSError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"{given[0]}: the teacher family {family.registered_name!r} could not {what} it ({reason}); if the "
            "checkpoint is whole, tell the family's author"
        ) from error


def load_teacher(path: str | Path, device: str = "cpu", *, dtype: torch.dtype | None = None, **options: Any) -> Teacher:
    """A teacher from its folder, or from an official checkpoint of any family: a run folder of DiffuSeq, say.

    Args:
        path: of the folder or file.
        device: where its weights go.
        dtype: what it computes in, see :meth:`TextModel.to`.
        options: for an official checkpoint, see :class:`dlkit.teachers._base.ReadOptions`. What the user should know of
            it is a :class:`dlkit.errors.Notice`.

    Raises:
        UserError: see :meth:`TextModel.from_pretrained` and :func:`read_official`.
    """
    if options.get("family") is None and official_family(path) is None:
        if options:
            raise UserError(f"{path} is no official checkpoint; {', '.join(options)} can only be said of one")
        return Teacher.from_pretrained(path, device, dtype=dtype)
    teacher, found = read_official(path, ReadOptions(**options))
    for warning in found.warnings:
        warnings.warn(warning, Notice, stacklevel=2)
    return teacher.to(device, dtype=dtype)


def load_student(path: str | Path, device: str = "cpu", *, dtype: torch.dtype | None = None) -> OneStepGenerator:
    """A student from its folder, as :meth:`TextModel.from_pretrained` reads it. Raises ``UserError`` as that does."""
    return OneStepGenerator.from_pretrained(path, device, dtype=dtype)
