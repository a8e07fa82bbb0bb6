"""Official checkpoints to model folders, and back."""

import hashlib
from pathlib import Path
from typing import Any

from dlkit.errors import UserError
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
    """Write a teacher in the official format of a family.

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
    return Path(out)


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
