"""Fitting, distilling, and the whole way in one command."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from dlkit.cli._app import app
from dlkit.cli.options import DataOption, OutOption, RecipeOption, ResumeOption, SeedOption, SetOption
from dlkit.errors import UserError


@app.command()
def train(
    data: DataOption,
    out: OutOption,
    recipe: RecipeOption = "demo",
    settings: SetOption = [],  # noqa: B006 - typer copies it
    seed: SeedOption = 0,
    resume: ResumeOption = False,
) -> None:
    """Fit a teacher."""
    from dlkit.recipes import find
    from dlkit.training.fit import fit
    from dlkit.training.memory import keep_freed_memory

    keep_freed_memory()
    with _interruptible():
        result = fit(find(recipe).with_settings(settings), data, out, seed=seed, resume=resume)
    typer.echo(f"teacher: {result.teacher}")


@app.command()
def distill(
    teacher: Annotated[Path, typer.Option("--teacher", help="folder of the teacher")],
    data: DataOption,
    out: OutOption,
    recipe: RecipeOption = "demo",
    settings: SetOption = [],  # noqa: B006 - typer copies it
    seed: SeedOption = 0,
    resume: ResumeOption = False,
) -> None:
    """Distil a teacher into a student of one step, or of a few."""
    from dlkit.recipes import find
    from dlkit.training.distill import distill as run
    from dlkit.training.memory import keep_freed_memory

    keep_freed_memory()
    for setting in settings:
        if setting.startswith(("model.", "fit.")):
            raise UserError(f"--set {setting}: distillation takes model and fit from the teacher; leave it out")
    with _interruptible():
        result = run(find(recipe).with_settings(settings), teacher, data, out, seed=seed, resume=resume)
    best = result.best
    typer.echo(f"student: {result.student} (stage {best['stage'] + 1}, step {best['step']}, {best['score']:.4f})")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for the report, the teacher and the student")] = Path(
        "demo-out"
    ),
    seed: Annotated[
        int, typer.Option("--seed", help="of distillation and sampling; corpus and teacher stay the same")
    ] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="score the teacher again instead of showing its shipped rows")
    ] = False,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="train the teacher too (most of an hour)")
    ] = False,
) -> None:
    """The whole way in three minutes: corpus, teacher, distillation, report."""
    from dlkit.demo import run
    from dlkit.training.memory import keep_freed_memory

    keep_freed_memory()
    report = run(out, seed=seed, full=full, from_scratch=from_scratch)
    typer.echo(f"report: {report}")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("dlkit: stopped; --resume goes on from the last checkpoint", err=True)
        raise typer.Exit(130) from None
