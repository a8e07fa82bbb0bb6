"""Names to parts.

A registry belongs to one package (``dlkit.objectives``, say). A part's name is the name of its file in that package, or
of an entry point in the group of the same name that another distribution declares. ``names()`` reads directory and
metadata only; looking a name up imports that one file.
"""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Generic, TypeVar

from dlkit.errors import UserError

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
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self.group = f"dlkit.{kind}"
        self._entries: dict[str, Entry[T]] = {}
        self._plugin_being_loaded: str | None = None

    def register(self, name: str, *, description: str, paper: str = "", licence: str = "") -> Callable[[C], C]:
        """Class decorator: make ``name`` stand for the class.

        Raises:
            ValueError: another class already has that name.
        """

        def add(part: C) -> C:
            held = self._entries.get(name)
            if held is not None and _path(held.part) != _path(part):
                raise ValueError(f"{self.kind}: the name {name!r} is taken by {held.location}; choose another")
            part.registered_name = name  # type: ignore[attr-defined]
            origin = self._plugin_being_loaded or part.__module__.partition(".")[0]
            self._entries[name] = Entry(name, part, description, paper, licence, origin)
            return part

        return add

    def files(self) -> list[str]:
        """Names of the built-in parts: the public modules of the package."""
        package = importlib.import_module(self.package)
        return [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]

    def plugins(self) -> dict[str, metadata.EntryPoint]:
        """Entry points of this kind by name. A built-in part wins over a plugin of the same name."""
        local = set(self.files())
        return {point.name: point for point in metadata.entry_points(group=self.group) if point.name not in local}

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self.files(), *self.plugins(), *self._entries})

    def entry(self, name: str) -> Entry[T]:
        """The entry of a name, importing its file if that has not happened yet.

        Raises:
            UserError: nothing has that name (near matches are listed), or a plugin cannot be loaded.
        """
        if name not in self._entries:
            self._load(name)
        return self._entries[name]

    def get(self, name: str) -> type[T]:
        """The class of a name. Raises ``UserError`` as :meth:`entry` does."""
        return self.entry(name).part

    def _load(self, name: str) -> None:
        plugins = self.plugins()
        if name in self.files():
            importlib.import_module(f"{self.package}.{name}")
        elif name in plugins:
            self._load_plugin(plugins[name])
        if name not in self._entries:
            raise UserError(self._unknown(name))

    def _load_plugin(self, point: metadata.EntryPoint) -> None:
        origin = point.dist.name if point.dist else point.value
        self._plugin_being_loaded = origin
        try:
            point.load()
        except Exception as error:  # a broken plugin may raise anything; it must be named, and only it must fail
            raise UserError(
                f"{self.kind}: plugin {point.name!r} of {origin} cannot be loaded ({type(error).__name__}: {error}); "
                "mend or uninstall that package"
            ) from error
        finally:
            self._plugin_being_loaded = None

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(self.names())}"
        return f"{self.kind}: nothing is called {name!r}; {hint}"


def _path(part: type) -> tuple[str, str]:
    """By which a class that is defined again, as a reloaded file does, is known to be the same."""
    return part.__module__, part.__qualname__
