"""Parts that other distributions declare: read from their metadata, without importing any of them."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from dlkit import __version__
from dlkit.errors import Notice

DISTRIBUTION = "dlkit-lm"


class PluginWarning(Notice):
    """One line about a plugin that is left out."""


@dataclass(frozen=True)
class Plugin:
    """An entry point in a group of dlkit.

    Attributes:
        point: its group is ``dlkit.<kind>``, its name the part's, its value the module that registers it.
        distribution: who declares it.
        version: of the distribution.
        requires: what the distribution says it needs.
    """

    point: metadata.EntryPoint
    distribution: str
    version: str
    requires: tuple[str, ...]

    @property
    def package(self) -> str:
        """The importable package that the part lives in."""
        return self.point.module.partition(".")[0]

    def unmet(self) -> str | None:
        """What the distribution requires of dlkit, if this version of dlkit is not it."""
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        for line in self.requires:
            try:
                needed = Requirement(line)
            except InvalidRequirement:
                continue
            applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
            if canonicalize_name(needed.name) != DISTRIBUTION or not applies:
                continue
            if not needed.specifier.contains(__version__, prereleases=True):
                return f"{needed.name}{needed.specifier}"
        return None


def declared(group: str = "") -> list[Plugin]:
    """All entry points in ``group``, or in any group of dlkit. Of a distribution that is installed twice the first
    on the path counts. One whose metadata is damaged is left out with a :class:`PluginWarning`.
    """
    found: dict[str, list[Plugin]] = {}
    for distribution in metadata.distributions():
        try:
            plugins = list(_of(distribution))
        except Exception as error:  # metadata are files that anything may have happened to
            _warn_of_damage(distribution, error)
            continue
        if plugins:
            found.setdefault(plugins[0].distribution.lower(), plugins)
    wanted = [plugin for plugins in found.values() for plugin in plugins if group in ("", plugin.point.group)]
    return sorted(wanted, key=lambda plugin: (plugin.point.name, plugin.distribution))


def _of(distribution: metadata.Distribution) -> Iterator[Plugin]:
    if "[dlkit." not in (distribution.read_text("entry_points.txt") or ""):
        return  # so that the metadata of most distributions need not be read
    requires = tuple(distribution.requires or ())
    for point in distribution.entry_points:
        if point.group.startswith("dlkit."):
            name = distribution.metadata["Name"] or point.module.partition(".")[0]
            yield Plugin(point, name, distribution.metadata["Version"] or "?", requires)


def _warn_of_damage(distribution: metadata.Distribution, error: Exception) -> None:
    where = getattr(distribution, "_path", None) or distribution
    reason = " ".join(str(error).split())
    warnings.warn(f"{where}: damaged metadata ({type(error).__name__}: {reason}); reinstall it", PluginWarning, 2)
