"""Names to parts.

A registry belongs to one package (``dlkit.objectives``, say). A part's name is the name of its file in that package, or
of an entry point in the group of the same name that another distribution declares. ``names()`` reads directory and
metadata only; looking a name up imports that one file.
"""

import difflib
import importlib
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dlkit import __version__
from dlkit.errors import UserError
from dlkit.plugins import DISTRIBUTION, Plugin, PluginWarning, declared

KINDS = {  # the package of each kind
    "schedules": "dlkit.schedules",
    "spaces": "dlkit.spaces",
    "processes": "dlkit.diffusion.processes",
    "time_samplers": "dlkit.diffusion.time_samplers",
    "backbones": "dlkit.backbones",
    "objectives": "dlkit.objectives",
    "discriminators": "dlkit.discriminators",
    "decoders": "dlkit.decoders",
    "samplers": "dlkit.samplers",
    "metrics": "dlkit.metrics",
    "teachers": "dlkit.teachers",
}

T = TypeVar("T")
C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered part and what a reader wants to know of it.

    Attributes:
        name: what a Recipe calls it.
        part: the class.
        description: one line.
        paper: where the idea was published.
        licence: the terms of the method's original code, where that matters to a user.
        origin: the distribution that brought the part.
    """

    name: str
    part: type[T]
    description: str
    paper: str
    licence: str
    origin: str

    @property
    def location(self) -> str:
        """``file:line`` of the class."""
        file = inspect.getsourcefile(self.part) or "?"
        return f"{file}:{inspect.getsourcelines(self.part)[1]}"


class Registry(Generic[T]):
    """The parts of one kind.

    Args:
        kind: the plural noun, which is also the name users see in ``dlkit.<kind>`` and in the entry-point group.
        package: the package whose public modules are parts.
        base: ``module:Class`` that every part derives from; it is imported when the first part is registered.
    """

    def __init__(self, kind: str, package: str, base: str = "") -> None:
        self.kind = kind
        self.package = package
        self.base = base
        self.group = f"dlkit.{kind}"
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, *, description: str, paper: str = "", licence: str = "") -> Callable[[C], C]:
        """Class decorator: make ``name`` stand for the class.

        Raises:
            ValueError: another class already has that name.
            TypeError: the class is not a part of this kind.
        """

        def add(part: C) -> C:
            self._refuse_taken(name, part)
            self._refuse_interface(part)
            part.registered_name = name  # type: ignore[attr-defined]
            self._entries[name] = Entry(name, part, description, paper, licence, self._origin_of(part))
            return part

        return add

    def files(self) -> list[str]:
        """Names of the built-in parts: the public modules of the package."""
        package = importlib.import_module(self.package)
        return [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]

    def plugins(self) -> dict[str, list[Plugin]]:
        """What other distributions declare, by name. Nothing is imported: whether it loads is another question."""
        found: dict[str, list[Plugin]] = {}
        for plugin in declared(self.group):
            found.setdefault(plugin.point.name, []).append(plugin)
        return found

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self.files(), *self.plugins(), *self._entries})

    def usable(self) -> list[str]:
        """:meth:`names` without the plugins that cannot be used, of which a :class:`PluginWarning` tells."""
        broken = self.broken()
        for line in (line for lines in broken.values() for line in lines):
            warnings.warn(line, PluginWarning, 2)
        own = self.files()
        return [name for name in self.names() if name in own or name not in broken]

    def broken(self) -> dict[str, list[str]]:
        """Why plugins cannot be used, one line each, by the name they declare. Loads plugins, but no built-in part."""
        own, found = self.files(), {}
        for name, claims in self.plugins().items():
            if name in own:
                found[name] = [self._hidden(claim) for claim in claims]
                continue
            try:
                self.entry(name)
            except UserError as error:
                found[name] = [str(error)]
        return found

    def entry(self, name: str) -> Entry[T]:
        """The entry of a name, importing its file if that has not happened yet.

        A plugin that has the name of a built-in part is not used; a :class:`PluginWarning` tells of it.

        Raises:
            UserError: nothing has that name (near matches are listed), or a plugin cannot be used.
        """
        if name not in self._entries:
            self._load(name)
        return self._entries[name]

    def get(self, name: str) -> type[T]:
        """The class of a name. Raises ``UserError`` as :meth:`entry` does."""
        return self.entry(name).part

    def _load(self, name: str) -> None:
        claims = self.plugins().get(name, [])
        if name in self.files():
            for claim in claims:
                warnings.warn(self._hidden(claim), PluginWarning, 4)
            importlib.import_module(f"{self.package}.{name}")
        elif len(claims) > 1:
            who = " and ".join(claim.distribution for claim in claims)
            raise UserError(f"{self.kind}: the name {name!r} is declared by {who}; uninstall all but one of them")
        elif claims:
            self._load_plugin(claims[0])
        if name not in self._entries:
            raise UserError(self._unknown(name))

    def _load_plugin(self, plugin: Plugin) -> None:
        who = f"{self.kind}: plugin {plugin.point.name!r} of {plugin.distribution}"
        if (needed := plugin.unmet()) is not None:
            raise UserError(
                f"{who} needs {needed}, but this is {DISTRIBUTION} {__version__}; install another version of either"
            )
        try:
            plugin.point.load()
        except (Exception, SystemExit) as error:  # it may raise anything; it must be named, and only it must fail
            loaded = {name: entry for name, entry in self._entries.items() if entry.part.__module__ in sys.modules}
            self._entries = loaded  # what a module registered before it failed does not count
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"{who} cannot be loaded ({reason}); mend or uninstall that package") from error
        if plugin.point.name not in self._entries:
            raise UserError(
                f"{who} cannot be loaded ({plugin.point.value} registers nothing of that name); "
                "mend or uninstall that package"
            )

    def _hidden(self, plugin: Plugin) -> str:
        return (
            f"{self.kind}: plugin {plugin.point.name!r} of {plugin.distribution} is not used, because dlkit has a part "
            "of that name; the plugin must choose another"
        )

    def _refuse_taken(self, name: str, part: type) -> None:
        held = self._entries.get(name)
        if held is not None and _path(held.part) != _path(part):
            raise ValueError(f"{self.kind}: the name {name!r} is taken by {held.location}; choose another")
        own = f"{self.package}.{name}"
        if held is None and part.__module__ != own and name in self.files():
            raise ValueError(f"{self.kind}: the name {name!r} is taken by {own}; choose another")

    def _refuse_interface(self, part: type) -> None:
        if not self.base:
            return
        module, _, name = self.base.partition(":")
        base = getattr(importlib.import_module(module), name)
        if not issubclass(part, base):
            raise TypeError(f"{self.kind}: {part.__name__} must derive from {module}.{name}")
        unset = [each for each in getattr(base, "__class_vars__", ()) if not hasattr(part, each)]
        missing = [*sorted(getattr(part, "__abstractmethods__", ())), *sorted(unset)]
        if missing:
            raise TypeError(f"{self.kind}: {part.__name__} lacks {', '.join(missing)}, which {name} asks for")

    def _origin_of(self, part: type) -> str:
        """The distribution that a class comes from, or its package where no distribution declares that."""
        package = part.__module__.partition(".")[0]
        if package == __name__.partition(".")[0]:
            return package
        return next((plugin.distribution for plugin in declared() if plugin.package == package), package)

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(self.names())}"
        return f"{self.kind}: nothing is called {name!r}; {hint}"


def _path(part: type) -> tuple[str, str]:
    """By which a class that is defined again, as a reloaded file does, is known to be the same."""
    return part.__module__, part.__qualname__
