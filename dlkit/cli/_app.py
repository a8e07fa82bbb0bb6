"""The application that the commands register with."""

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil a continuous diffusion language model into a generator that writes a text in one network call.",
)
