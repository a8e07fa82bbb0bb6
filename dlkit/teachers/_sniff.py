"""Which family an official checkpoint belongs to."""

from pathlib import Path

from dlkit.teachers import registry
from dlkit.teachers._base import TeacherFamily


def sniff(path: Path) -> TeacherFamily | None:
    """The family whose official checkpoint lies at ``path``, by the names of its files; None if there is none."""
    families = (registry.get(name)() for name in registry.names())
    return next((family for family in families if family.recognises(path)), None)
