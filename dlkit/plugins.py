"""Parts that other distributions declare: read from their metadata, without importing any of them."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from dlkit import __version__
from dlkit.errors import Notice, UserError

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


def behind(parts: Iterable[type]) -> dict[str, str]:
    """Names and versions of the distributions that classes of parts come from; of dlkit's own and a script's: none."""
    foreign = sorted({part for part in parts if _package(part) != "dlkit"}, key=lambda part: part.__qualname__)
    plugins = declared() if foreign else []
    found: dict[str, str] = {}
    for part in foreign:
        near = [plugin for plugin in plugins if plugin.package == _package(part)]
        own = [plugin for plugin in near if plugin.point.name == getattr(part, "registered_name", "")]
        found |= {plugin.distribution: plugin.version for plugin in (own or near)[:1]}
    return dict(sorted(found.items()))


def check_installed(recorded: Any, where: str) -> None:
    """Compare what :func:`behind` recorded with what is installed; another version is a :class:`dlkit.errors.Notice`.

    Args:
        recorded: versions by name; None counts as empty.
        where: what was recorded, for the message.

    Raises:
        UserError: a distribution is not installed, or ``recorded`` is no record.
    """
    recorded = {} if recorded is None else recorded
    if not isinstance(recorded, dict) or not all(
        isinstance(word, str) and word for x in recorded.items() for word in x
    ):
        raise UserError(f"{where}: 'plugins' must hold names and versions, not {recorded!r}; restore it from a copy")
    missing = {name: version for name, version in recorded.items() if _installed(name) is None}
    if missing:
        names = " and ".join(f"{name} {version}" for name, version in missing.items())
        wanted = " ".join(f"{name}=={version}" for name, version in missing.items())
        noun = "plugin" if len(missing) == 1 else "plugins"
        raise UserError(f"{where} needs the {noun} {names}, not installed here; pip install {wanted}")
    for name, version in recorded.items():
        if (found := _installed(name)) != version:
            warnings.warn(f"{where} was made with {name} {version}, installed is {found}", Notice, 3)


def _installed(distribution: str) -> str | None:
    """Its version, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, KeyError):
        return None


def _package(part: type) -> str:
    return part.__module__.partition(".")[0]


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
