"""What there is, and where one's own begins."""

import importlib
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit import __version__
from dlkit.cli._app import app
from dlkit.errors import UserError
from dlkit.plugins import PluginWarning
from dlkit.registry import KINDS


@app.command("list")
def list_parts(
    kind: Annotated[str | None, typer.Argument(help="one kind of part; all if left out")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="with description, paper and file")] = False,
) -> None:
    """What can be named in a Recipe, and where it comes from; plugins that cannot be used, and why."""
    if kind is not None and kind not in {*KINDS, "recipes"}:
        raise UserError(f"there is no kind {kind!r}; known: {', '.join([*KINDS, 'recipes'])}")
    for name, package in KINDS.items():
        if kind in (None, name):
            _list_kind(name, importlib.import_module(package).registry, verbose)
    if kind in (None, "recipes"):
        _list_recipes()


def _list_kind(kind: str, registry: Any, verbose: bool) -> None:
    typer.echo(f"{kind}:")
    own, plugins, broken = registry.files(), registry.plugins(), registry.broken()
    for name in registry.names():
        claims = ", ".join(f"{plugin.distribution} {plugin.version}" for plugin in plugins.get(name, []))
        typer.echo(f"  {name:<16} {'dlkit' if name in own else claims}")
        for line in broken.get(name, []):
            typer.echo(f"      broken: {line}")
        if verbose and (name in own or name not in broken):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PluginWarning)  # it was told above
                _describe(registry.entry(name))


def _describe(entry: Any) -> None:
    typer.echo(f"      {entry.description}\n      paper: {entry.paper or '-'}\n      file: {entry.location}")
    for line in (entry.part.__doc__ or "").strip().splitlines():
        typer.echo(f"      | {line.strip()}")


def _list_recipes() -> None:
    folder = Path(__file__).parents[1] / "recipes"  # names only: reading a Recipe would import torch
    typer.echo("recipes:\n" + "\n".join(f"  {path.stem}" for path in sorted(folder.glob("*.yaml"))))


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="of the package and, with underscores, of its part: my-objective")],
    out: Annotated[Path, typer.Option("--out", help="folder that the package's folder is put into")] = Path("."),
    kind: Annotated[str, typer.Option("--kind", help="what kind of part it begins with")] = "objectives",
) -> None:
    """Begin a package of your own parts, with a test that passes."""
    from dlkit.starter import new_plugin as write

    folder = write(name, out, kind)
    typer.echo(f"plugin: {folder}; pip install -e '{folder}[test]', then pytest {folder}")


@app.command()
def version() -> None:
    """The version."""
    typer.echo(__version__)
