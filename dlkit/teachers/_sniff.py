"""Which family an official checkpoint belongs to."""

import warnings
from pathlib import Path

from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.plugins import PluginWarning
from dlkit.teachers import registry
from dlkit.teachers._base import TeacherFamily


def sniff(path: Path) -> TeacherFamily | None:
    """The family whose official checkpoint lies at ``path``, by the names of its files; None if there is none.

    All families are asked, those of plugins too; one that cannot answer is left out with a ``PluginWarning``.

    Raises:
        UserError: several families know the checkpoint as their own.
    """
    found = [family for name in registry.usable() if (family := _claimed(name, path)) is not None]
    if len(found) > 1:
        names = " and ".join(family.registered_name for family in found)
        raise UserError(f"{path} may be a checkpoint of {names}; say which with --family, as dlkit import takes it")
    return found[0] if found else None


def family_of(name: str) -> TeacherFamily:
    """The family of that name, with its ``trial`` settings until a checkpoint tells its own."""
    return from_spec(registry, {"name": name, **registry.get(name).trial})


def readable() -> str:
    """What official checkpoints look like, in words."""
    said = [family.checkpoints for name in registry.usable() if (family := registry.get(name)).checkpoints]
    return " or ".join(said)


def _claimed(name: str, path: Path) -> TeacherFamily | None:
    """The family, if it says that the checkpoint is its own."""
    try:
        family = family_of(name)
        return family if family.recognises(path) else None
    except Exception as error:  # a plugin's code may raise anything, and must not keep others from being read
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        warnings.warn(
            f"teachers: {name!r} cannot tell whether {path} is a checkpoint of it ({reason})", PluginWarning, 3
        )
        return None
