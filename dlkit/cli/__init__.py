"""The command line. Nothing here imports torch before a command needs it: ``--help`` and ``list`` are instant."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import typer

from dlkit.cli import bench, checkpoints, parts, runs, texts  # noqa: F401 - they register their commands
from dlkit.cli._app import app
from dlkit.errors import Notice, UserError

UsageError: Any = typer.BadParameter.__base__  # click's, or that of the copy of click inside newer versions of typer


@contextlib.contextmanager
def _notices() -> Iterator[None]:
    """Print what the user should know as one line; warnings of other kinds as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        show, told = warnings.showwarning, set()

        def brief(message: Any, category: type[Warning], *rest: Any, **named: Any) -> None:
            if not issubclass(category, Notice):
                show(message, category, *rest, **named)
            elif str(message) not in told:
                told.add(str(message))
                typer.echo(f"dlkit: warning: {message}", err=True)

        warnings.showwarning = brief
        yield


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    try:
        with _notices():
            raise SystemExit(app(standalone_mode=False) or 0)
    except UserError as error:
        _refuse(str(error))
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            raise SystemExit(2) from None
        _refuse(f"{error.format_message().rstrip('.')}; see dlkit --help")
    except (typer.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None


def _refuse(message: str) -> NoReturn:
    """One line whatever was typed: a path may hold a line break."""
    print("dlkit:", " ".join(message.splitlines()), file=sys.stderr)
    raise SystemExit(2) from None
