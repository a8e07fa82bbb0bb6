"""Official checkpoints in and out."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from dlkit.cli._app import app
from dlkit.cli.options import ModelOption, positive
from dlkit.errors import Notice, UserError


@app.command("import")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help="official checkpoint: DiffuSeq's run folder or one .pt of it, FLM's .ckpt, the folder of Plaid's four "
            ".pt files, a plugin family's"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="folder of the teacher; it must be new or empty")],
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="file, folder or hub name, in place of the run's own")
    ] = None,
    allow_unused: Annotated[
        bool, typer.Option("--allow-unused", help="leave out tensors that the network has no place for")
    ] = False,
    step: Annotated[int | None, typer.Option("--step", help="which checkpoint (default: the latest)")] = None,
    tie: Annotated[
        str | None,
        typer.Option("--tie", help="which copy of DiffuSeq's tied table: lm_head, as the original does, or ema"),
    ] = None,
    heads: Annotated[int | None, typer.Option("--heads", help="attention heads (default: found out)")] = None,
    family: Annotated[str | None, typer.Option("--family", help="whose checkpoint it is (default: found out)")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="the weights themselves, not their average beside them")] = False,
) -> None:
    """An official checkpoint becomes a teacher, with a report of every tensor."""
    positive(heads=heads)
    if tie not in (None, "lm_head", "ema"):
        raise UserError(f"--tie {tie}: give lm_head or ema")
    from dlkit.exchange import import_teacher
    from dlkit.teachers._base import ReadOptions

    found = import_teacher(path, out, ReadOptions(tokenizer, tie, step, heads, allow_unused, family, raw))
    for line in (*found.keys, *found.notes):
        typer.echo(str(line))
    for warning in found.warnings:
        warnings.warn(warning, Notice, stacklevel=2)
    typer.echo(f"teacher: {out}")


@app.command("export")
def export_(
    model: ModelOption,
    out: Annotated[Path, typer.Option("--out", help="folder to write; it must be new or empty")],
    family: Annotated[
        str | None, typer.Option("--format", help="the family whose official format it is (default: its own)")
    ] = None,
) -> None:
    """A teacher in the format of its family's original code."""
    from dlkit.exchange import export_teacher

    typer.echo(f"checkpoint: {export_teacher(model, out, family)}")
