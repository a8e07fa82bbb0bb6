"""The command line. Nothing here imports torch before a command needs it: ``--help`` and ``list`` are instant."""

import contextlib
import importlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit import __version__
from dlkit.errors import UserError
from dlkit.plugins import PluginWarning
from dlkit.registry import KINDS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil a continuous diffusion language model into a generator that writes a text in one network call.",
)

RecipeOption = Annotated[str, typer.Option("--recipe", help="name of a ready Recipe, or a YAML file")]
SetOption = Annotated[list[str], typer.Option("--set", help="change a setting: objective.mu=1.0 (may be repeated)")]
SeedOption = Annotated[int, typer.Option("--seed", help="of the noise and the order of the data")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint in --out")]
DataOption = Annotated[
    Path, typer.Option("--data", help="folder with train.jsonl[.gz], valid.jsonl[.gz], test.jsonl[.gz]")
]
OutOption = Annotated[Path, typer.Option("--out", help="folder of the run; it must be new, empty or --resume-d")]
ModelOption = Annotated[Path, typer.Option("--model", help="folder of a teacher or a student")]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="network calls for each text (default: the model's own)")
]
SamplerOption = Annotated[
    str | None, typer.Option("--sampler", help="name, or settings such as '{name: ancestral, rounding: true}'")
]
SamplesOption = Annotated[int, typer.Option("--samples", help="texts for each source")]


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
    folder = Path(__file__).parent / "recipes"  # names only: reading a Recipe would import torch
    typer.echo("recipes:\n" + "\n".join(f"  {path.stem}" for path in sorted(folder.glob("*.yaml"))))


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
    """Distil a teacher into a one-step student."""
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
def sample(
    model: ModelOption,
    source: Annotated[str, typer.Option("--input", help="file with one source a line, or - for standard input")] = "-",
    steps: StepsOption = None,
    sampler: SamplerOption = None,
    samples: SamplesOption = 1,
    seed: SeedOption = 0,
    batch: Annotated[int, typer.Option("--batch", help="texts written at once")] = 256,
) -> None:
    """Write texts: one JSON line for each source."""
    _positive(steps=steps, samples=samples, batch=batch)
    sources = _sources(source)
    from dlkit.generator import load

    loaded = load(model)
    texts = loaded.generate(
        sources, num_samples=samples, steps=steps, sampler=_sampler(sampler), seed=seed, batch_size=batch
    )
    for text, hypotheses in zip(sources, texts, strict=True):
        typer.echo(json.dumps({"source": text, "hypotheses": hypotheses}, ensure_ascii=False))


@app.command("eval")
def evaluate(
    model: ModelOption,
    data: DataOption,
    split: Annotated[
        str, typer.Option("--split", help="train, valid, test or another file of the data folder")
    ] = "test",
    protocol: Annotated[str, typer.Option("--protocol", help="how texts are scored: diffuseq or raw")] = "diffuseq",
    samples: SamplesOption = 1,
    mbr: Annotated[int, typer.Option("--mbr", help="choose one of this many candidates by minimum Bayes risk")] = 0,
    steps: StepsOption = None,
    sampler: SamplerOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="only the first N sources")] = None,
    seed: SeedOption = 0,
    batch: Annotated[int, typer.Option("--batch", help="texts written at once")] = 256,
    file: Annotated[Path | None, typer.Option("--json", help="where to write the report")] = None,
) -> None:
    """Score a model on a split."""
    _positive(steps=steps, samples=samples, batch=batch, limit=limit)
    if mbr == 1 or mbr < 0:
        raise UserError(f"--mbr {mbr}: give 0 for none, or at least 2 candidates to choose from")
    if file is not None and (not file.name or file.is_dir()):
        raise UserError(f"--json {file}: give the name of a file")
    from dlkit.evaluation.folder import evaluate_folder
    from dlkit.files import write_json
    from dlkit.generator import load

    report = evaluate_folder(
        load(model),
        data,
        split,
        protocol,
        num_samples=samples,
        mbr=mbr,
        steps=steps,
        sampler=_sampler(sampler),
        limit=limit,
        seed=seed,
        batch_size=batch,
    )
    for row in report["models"]:
        typer.echo(json.dumps(row["metrics"]))
    if file is not None:
        write_json(file, report)
        typer.echo(f"report: {file}")


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


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("dlkit: stopped; --resume goes on from the last checkpoint", err=True)
        raise typer.Exit(130) from None


def _positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UserError(f"--{name} {number}: give at least 1")


def _sampler(text: str | None) -> Any:
    if text is None or not text.lstrip().startswith("{"):
        return text
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--sampler {text}: not a YAML mapping; write '{{name: ancestral, rounding: true}}'") from None


def _sources(source: str) -> list[str]:
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


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    try:
        with _plugin_warnings_in_one_line():
            app()
    except UserError as error:
        print(f"dlkit: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@contextlib.contextmanager
def _plugin_warnings_in_one_line() -> Iterator[None]:
    with warnings.catch_warnings():
        usual, told = warnings.showwarning, set()

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, PluginWarning):
                usual(message, category, *where, **more)
            elif str(message) not in told:
                told.add(str(message))
                print(f"dlkit: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


if __name__ == "__main__":
    main()
