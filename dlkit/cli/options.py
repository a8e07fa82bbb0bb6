"""Options that commands share, and what their values mean."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.errors import UserError

RecipeOption = Annotated[str, typer.Option("--recipe", help="name of a ready Recipe, or a YAML file")]
SetOption = Annotated[list[str], typer.Option("--set", help="change a setting: objective.mu=1.0 (may be repeated)")]
SeedOption = Annotated[int, typer.Option("--seed", help="of the noise and the order of the data")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint in --out")]
DataOption = Annotated[
    Path,
    typer.Option("--data", help="folder with train, valid and test, each .jsonl[.gz], or .txt[.gz] of texts alone"),
]
OutOption = Annotated[Path, typer.Option("--out", help="folder of the run; it must be new, empty or --resume-d")]
ModelOption = Annotated[Path, typer.Option("--model", help="folder of a teacher or a student")]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="network calls for each text (default: the model's own)")
]
SamplerOption = Annotated[
    str | None, typer.Option("--sampler", help="name, or settings such as '{name: ancestral, rounding: true}'")
]
DecoderOption = Annotated[
    str | None, typer.Option("--decoder", help="name, or settings such as '{name: logits, top_p: 0.9}'")
]
GuidanceOption = Annotated[
    float, typer.Option("--guidance", help="classifier-free guidance of a teacher that was trained for it (1: none)")
]
MbrOption = Annotated[int, typer.Option("--mbr", help="choose one of this many candidates by minimum Bayes risk")]
BatchOption = Annotated[
    int | None, typer.Option("--batch", help="texts written at once (default: 256, fewer if states are large)")
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="what the network computes in: fp32 or bf16")]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="compile the network first: minutes once, for many texts or steps")
]
SamplesOption = Annotated[
    int, typer.Option("--samples", help="texts for each source, or in all if the model writes without sources")
]


def positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UserError(f"--{name} {number}: give at least 1")


def read_precision(name: str) -> Any:
    """The torch type of that name; None for fp32, in which models are read."""
    if name not in ("fp32", "bf16"):
        raise UserError(f"--precision {name}: give fp32 or bf16")
    import torch

    return {"fp32": None, "bf16": torch.bfloat16}[name]


def read_part(option: str, text: str | None) -> Any:
    """A name as it stands; settings read as YAML."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    return read_mapping(option, text, "{name: ..., setting: value}")


def read_metrics(given: list[str]) -> list[Any]:
    from dlkit import metrics
    from dlkit.part import from_spec

    made = [from_spec(metrics.registry, read_part("--metric", text)) for text in given]
    names = [metric.registered_name for metric in made]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"--metric {name} is given twice; give a metric once, and evaluate again for other settings"
            )
    return made


def read_bertscore(text: str) -> Any:
    from dlkit import metrics
    from dlkit.part import from_spec

    mapped = text.lstrip().startswith("{")
    settings = read_mapping("--bertscore", text, "{model: DIR, layer: 9}") if mapped else {"model": text}
    return from_spec(metrics.registry, {**settings, "name": "bertscore"})


def read_mapping(option: str, text: str, example: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{option} {text}: not a YAML mapping; write '{example}'") from None


def none_given(source: str | None) -> None:
    if source is not None:
        raise UserError(f"--input {source}: this model writes without a source; leave it out and say --samples")


def given(source: str | None) -> list[str]:
    source = source or "-"
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{source} is not UTF-8 text") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{'standard input' if source == '-' else source} holds no text; give one source a line")
    return lines
