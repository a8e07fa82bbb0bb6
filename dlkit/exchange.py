"""Official checkpoints to model folders, and back."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from dlkit.errors import Notice, UserError
from dlkit.files import atomic_folder, write_json
from dlkit.generator import Teacher, load, read_official
from dlkit.generator.loading import guarded
from dlkit.teachers._base import Original, ReadOptions, TeacherFamily
from dlkit.teachers._sniff import family_of

RECORD = "import.json"


def import_teacher(path: str | Path, out: str | Path, options: ReadOptions | None = None) -> Original:
    """Make a model folder of an official checkpoint. ``import.json`` in it records whose it is and where tensors went.

    Args:
        path: a run folder, or one checkpoint of it.
        out: the folder to write; new or empty.
        options: how to read it.

    Returns:
        what was found.

    Raises:
        UserError: the checkpoint cannot be read, or ``out`` holds something or cannot be written.
    """
    _refuse_content(Path(out))
    teacher, found = read_official(path, options or ReadOptions())
    with atomic_folder(out) as folder:
        teacher.write(folder)
        family: TeacherFamily = teacher.architecture.family  # type: ignore[assignment]
        write_json(folder / RECORD, {"family": family.registered_name, **_record(found)})
    return found


def export_teacher(model: str | Path, out: str | Path, family: str | None = None) -> Path:
    """Write a teacher in the official format of a family, and read it back to see what it keeps.

    What its ``config.json`` says and import would not give again is told in a :class:`dlkit.errors.Notice`.

    Args:
        model: the teacher's folder.
        out: the folder to write; new or empty.
        family: whose format; None is the teacher's own.

    Returns:
        ``out``.

    Raises:
        UserError: the folder holds no teacher, the format has no place for one of its parts, or ``out`` holds something
            or cannot be written.
    """
    _refuse_content(Path(out))
    format: TeacherFamily | None = None if family is None else family_of(family)
    teacher = load(model)
    if not isinstance(teacher, Teacher):
        raise UserError(f"{model} holds a {teacher.kind}; only teachers have an official format")
    format = format or teacher.architecture.family  # type: ignore[assignment]
    with atomic_folder(out) as folder:
        guarded(format, "write", format.write, folder, teacher.parts())  # type: ignore[arg-type, union-attr]
    lost = _not_kept(format, Path(out), teacher)  # type: ignore[arg-type]
    if lost:
        warnings.warn(lost, Notice, stacklevel=2)
    return Path(out)


def _not_kept(format: TeacherFamily, out: Path, teacher: Teacher) -> str | None:
    """What of the teacher's settings does not come back out of the format, in a line."""
    try:
        parts = guarded(format, "read", format.read, out, ReadOptions()).parts
        again = Teacher.described(format, parts)[0].model_dump(mode="json")
    except (UserError, OSError) as error:
        return f"what this format keeps is not known: the checkpoint cannot be read back ({error})"
    wanted = teacher.architecture.model_dump(mode="json")
    lost = [f"{name} {_short(wanted[name])} (import gives {_short(again[name])})" for name in wanted]
    lost = [line for line, name in zip(lost, wanted, strict=True) if wanted[name] != again[name]]
    return f"not kept by this format: {'; '.join(lost)}" if lost else None


def _short(setting: Any) -> str:
    """As a Recipe or ``--set`` has it, but for long tables."""
    said = json.dumps(setting)
    return said if len(said) <= 200 else f"{said[:200]}..."


def _record(found: Original) -> dict[str, Any]:
    with found.file.open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    return {
        "file": str(found.file),
        "sha256": digest,
        "notes": list(found.notes),
        "warnings": list(found.warnings),
        "keys": [vars(key) for key in found.keys],
    }


def _refuse_content(out: Path) -> None:
    if out.is_file():
        raise UserError(f"{out} is a file; give a folder for --out")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} holds other files; give a new or empty folder for --out")
