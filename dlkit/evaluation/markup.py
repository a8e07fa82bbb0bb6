"""HTML that is escaped unless it was made here."""

import html
from typing import TypeAlias


class Markup(str):
    """Text that is HTML already. Everything else is escaped when it gets into a tag."""

    __slots__ = ()


Child: TypeAlias = str | int | float | None

VOID = frozenset({"meta", "br"})


def tag(name: str, /, *children: Child, **attributes: Child) -> Markup:
    """``<name key="value">children</name>``.

    Children that are no :class:`Markup`, and all attribute values, are escaped; None is left out. An underscore in an
    attribute's name stands for a hyphen, one at its end for nothing: ``class_="a"``, ``aria_label="b"``.
    """
    pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    given = "".join(f' {key}="{html.escape(str(value))}"' for key, value in pairs.items())
    return Markup(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """The children one after another, escaped as in :func:`tag`."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(str(child)) for child in children if child is not None
        )
    )
