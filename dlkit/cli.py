"""The command line. Nothing here imports torch before a command needs it: ``--help`` and ``list`` are instant."""

import contextlib
import importlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dlkit import __version__
from dlkit.errors import Notice, UserError
from dlkit.plugins import PluginWarning
from dlkit.registry import KINDS

UsageError: Any = typer.BadParameter.__base__  # click's, or that of the copy of click inside newer versions of typer

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
DecoderOption = Annotated[
    str | None, typer.Option("--decoder", help="name, or settings such as '{name: logits, top_p: 0.9}'")
]
GuidanceOption = Annotated[
    float, typer.Option("--guidance", help="classifier-free guidance of a teacher that was trained for it (1: none)")
]
MbrOption = Annotated[int, typer.Option("--mbr", help="choose one of this many candidates by minimum Bayes risk")]
SamplesOption = Annotated[
    int, typer.Option("--samples", help="texts for each source, or in all if the model writes without sources")
]


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


@app.command("import")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help="official checkpoint: DiffuSeq's run folder or one .pt of it, FLM's .ckpt, a plugin family's"
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
        str, typer.Option("--tie", help="which copy of the tied table: lm_head, as the original does, or ema")
    ] = "lm_head",
    heads: Annotated[int | None, typer.Option("--heads", help="attention heads (default: found out)")] = None,
    family: Annotated[str | None, typer.Option("--family", help="whose checkpoint it is (default: found out)")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="the weights themselves, not their average beside them")] = False,
) -> None:
    """An official checkpoint becomes a teacher, with a report of every tensor."""
    _positive(heads=heads)
    if tie not in ("lm_head", "ema"):
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


@app.command()
def sample(
    model: ModelOption,
    source: Annotated[
        str | None,
        typer.Option(
            "--input", help="file with one source a line, or - for standard input (default); none if the model has none"
        ),
    ] = None,
    steps: StepsOption = None,
    sampler: SamplerOption = None,
    decoder: DecoderOption = None,
    guidance: GuidanceOption = 1.0,
    samples: SamplesOption = 1,
    mbr: MbrOption = 0,
    seed: SeedOption = 0,
    batch: Annotated[int, typer.Option("--batch", help="texts written at once")] = 256,
    decodes: Annotated[
        Path | None, typer.Option("--decodes", help="write DiffuSeq's decode files here instead; needs --data")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="data folder to decode, with --decodes")] = None,
    split: Annotated[str, typer.Option("--split", help="which file of --data")] = "test",
) -> None:
    """Write texts: one JSON line for each source, or for each text where there are none."""
    _positive(steps=steps, samples=samples, batch=batch)
    parts = {"sampler": _part("--sampler", sampler), "decoder": _part("--decoder", decoder)}
    if (decodes is None) != (data is None):
        raise UserError(
            "--decodes and --data go together: the one is the folder to write, the other has the references"
        )
    if decodes is not None and data is not None:
        if source not in (None, "-") or mbr:
            raise UserError(
                "--decodes takes its sources from --data and writes all samples; leave --input and --mbr out"
            )
        settings = {"steps": steps, "batch_size": batch, "guidance": guidance, **parts}
        return _decode(model, data, split, decodes, samples, seed, **settings)
    from dlkit.generator import load

    loaded = load(model)
    sources = _given(source) if loaded.architecture.is_conditional else _none_given(source)
    texts = loaded.generate(
        sources,
        num_samples=samples,
        mbr=mbr,
        steps=steps,
        seed=seed,
        batch_size=batch,
        guidance=guidance,
        **parts,
    )
    if sources is None:
        lines = [{"text": text} for text in texts[0]]
    else:
        lines = [{"source": text, "hypotheses": found} for text, found in zip(sources, texts, strict=True)]
    for line in lines:
        typer.echo(json.dumps(line, ensure_ascii=False))


def _decode(model: Path, data: Path, split: str, out: Path, samples: int, seed: int, **options: Any) -> None:
    from dlkit.data.pairs import read_split
    from dlkit.evaluation.decoding import clamp_of, decode, write_decodes
    from dlkit.generator import load

    pairs, loaded, seeds = read_split(data, split), load(model), range(seed, seed + samples)
    chosen = loaded.choose_sampler(options.pop("sampler"), options.pop("steps"))
    decoded = decode(loaded, pairs, seeds, sampler=chosen, **options)
    for file in write_decodes(out, decoded, seeds, clamp_of(loaded, chosen)):
        typer.echo(f"decoded: {file}")


@app.command("eval")
def evaluate(
    model: Annotated[Path | None, typer.Option("--model", help="folder of a teacher or a student")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="folder with the split: sources and references, or held-out texts")
    ] = None,
    decodes: Annotated[
        Path | None,
        typer.Option(
            "--decodes", help="score what is written already: DiffuSeq's decode files, or a dlkit sample file"
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="train, valid, test or another file of the data folder")
    ] = "test",
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help="how texts are scored: diffuseq (default), dlkit (without sources) or raw"),
    ] = None,
    more: Annotated[
        list[str],
        typer.Option("--metric", help="another metric: name, or settings such as '{name: gen_ppl, model: DIR}'"),
    ] = [],  # noqa: B006 - typer copies it
    bertscore: Annotated[
        str | None,
        typer.Option("--bertscore", help="BERTScore by this model: folder, hub name, or '{model: DIR, layer: 9}'"),
    ] = None,
    samples: SamplesOption = 1,
    mbr: MbrOption = 0,
    steps: StepsOption = None,
    sampler: SamplerOption = None,
    decoder: DecoderOption = None,
    guidance: GuidanceOption = 1.0,
    limit: Annotated[int | None, typer.Option("--limit", help="only the first N sources, or held-out texts")] = None,
    seed: SeedOption = 0,
    batch: Annotated[int, typer.Option("--batch", help="texts written at once")] = 256,
    file: Annotated[Path | None, typer.Option("--json", help="where to write the report")] = None,
) -> None:
    """Score a model on a split, or texts in files."""
    _positive(steps=steps, samples=samples, batch=batch, limit=limit)
    if file is not None and (not file.name or file.is_dir()):
        raise UserError(f"--json {file}: give the name of a file")
    if decodes is None and (model is None or data is None):
        raise UserError("give --model with --data to score a model, or --decodes to score texts in files")
    if decodes is not None and ((steps, sampler, decoder) != (None, None, None) or (samples, guidance) != (1, 1.0)):
        raise UserError(
            "--steps, --sampler, --decoder, --guidance and --samples say how to write; leave them out with --decodes"
        )
    from dlkit.evaluation.folder import evaluate_folder
    from dlkit.evaluation.protocol import rules
    from dlkit.evaluation.score_files import score_files
    from dlkit.files import write_json
    from dlkit.generator import load

    if protocol is not None:
        rules(protocol)
    more_metrics = [*_metrics(more), *([] if bertscore is None else [_bertscore(bertscore)])]
    loaded = None if model is None else load(model)
    if decodes is not None:
        report = score_files(
            decodes,
            protocol or "diffuseq",
            data=data,
            split=split,
            model=loaded,
            mbr=mbr,
            limit=limit,
            more_metrics=more_metrics,
        )
    else:
        assert loaded is not None and data is not None
        report = evaluate_folder(
            loaded,
            data,
            split,
            protocol,
            more_metrics=more_metrics,
            num_samples=samples,
            mbr=mbr,
            steps=steps,
            sampler=_part("--sampler", sampler),
            decoder=_part("--decoder", decoder),
            guidance=guidance,
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
def nll(
    model: ModelOption,
    data: Annotated[Path, typer.Option("--data", help="folder with the split")],
    split: Annotated[str, typer.Option("--split", help="which file of the data folder")] = "test",
    draws: Annotated[int, typer.Option("--draws", help="Monte-Carlo draws for each row")] = 8,
    limit: Annotated[int | None, typer.Option("--limit", help="only the first N texts")] = None,
    count_padding: Annotated[bool, typer.Option("--count-padding", help="padding counts as tokens")] = False,
    seed: SeedOption = 0,
    batch: Annotated[int, typer.Option("--batch", help="rows at once")] = 64,
    file: Annotated[Path | None, typer.Option("--json", help="where to write it with its protocol")] = None,
) -> None:
    """How likely a teacher finds texts: a bound of their negative log-likelihood, in nats and bits per token."""
    _positive(draws=draws, limit=limit, batch=batch)
    from dlkit.evaluation.likelihood import likelihood
    from dlkit.files import write_json
    from dlkit.generator import load_teacher

    options = {"limit": limit, "draws": draws, "seed": seed, "batch_size": batch, "padding_counted": count_padding}
    found = likelihood(load_teacher(model), data, split, **options)
    if file is not None:
        write_json(file, found.to_dict())
    typer.echo(found.line())


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


def _positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UserError(f"--{name} {number}: give at least 1")


def _part(option: str, text: str | None) -> Any:
    """A name as it stands; settings read as YAML."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    return _mapping(option, text, "{name: ..., setting: value}")


def _metrics(given: list[str]) -> list[Any]:
    from dlkit import metrics
    from dlkit.part import from_spec

    made = [from_spec(metrics.registry, _part("--metric", text)) for text in given]
    names = [metric.registered_name for metric in made]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"--metric {name} is given twice; give a metric once, and evaluate again for other settings"
            )
    return made


def _bertscore(text: str) -> Any:
    from dlkit import metrics
    from dlkit.part import from_spec

    mapped = text.lstrip().startswith("{")
    settings = _mapping("--bertscore", text, "{model: DIR, layer: 9}") if mapped else {"model": text}
    return from_spec(metrics.registry, {**settings, "name": "bertscore"})


def _mapping(option: str, text: str, example: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{option} {text}: not a YAML mapping; write '{example}'") from None


def _none_given(source: str | None) -> None:
    if source is not None:
        raise UserError(f"--input {source}: this model writes without a source; leave it out and say --samples")


def _given(source: str | None) -> list[str]:
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
