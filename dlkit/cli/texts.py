"""Writing texts and scoring them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.cli._app import app
from dlkit.cli.options import (
    BatchOption,
    CompileOption,
    DecoderOption,
    GuidanceOption,
    MbrOption,
    ModelOption,
    PrecisionOption,
    SamplerOption,
    SamplesOption,
    SeedOption,
    StepsOption,
    given,
    none_given,
    positive,
    read_bertscore,
    read_metrics,
    read_part,
    read_precision,
)
from dlkit.errors import UserError


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
    batch: BatchOption = None,
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    decodes: Annotated[
        Path | None, typer.Option("--decodes", help="write DiffuSeq's decode files here instead; needs --data")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="data folder to decode, with --decodes")] = None,
    split: Annotated[str, typer.Option("--split", help="which file of --data")] = "test",
) -> None:
    """Write texts: one JSON line for each source, or for each text where there are none."""
    positive(steps=steps, samples=samples, batch=batch)
    parts = {"sampler": read_part("--sampler", sampler), "decoder": read_part("--decoder", decoder)}
    if (decodes is None) != (data is None):
        raise UserError(
            "--decodes and --data go together: the one is the folder to write, the other has the references"
        )
    if decodes is not None and data is not None:
        if source not in (None, "-") or mbr:
            raise UserError(
                "--decodes takes its sources from --data and writes all samples; leave --input and --mbr out"
            )
        if compiled:
            raise UserError("--compile does not go with --decodes; leave it out")
        settings = {"steps": steps, "batch_size": batch, "guidance": guidance, "precision": precision, **parts}
        return _decode(model, data, split, decodes, samples, seed, **settings)
    from dlkit.generator import load

    loaded = load(model, dtype=read_precision(precision))
    sources = given(source) if loaded.architecture.is_conditional else none_given(source)
    texts = loaded.generate(
        sources,
        num_samples=samples,
        mbr=mbr,
        steps=steps,
        seed=seed,
        batch_size=batch,
        guidance=guidance,
        compile=compiled,
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

    dtype, pairs = read_precision(options.pop("precision")), read_split(data, split)
    loaded, seeds = load(model, dtype=dtype), range(seed, seed + samples)
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
    batch: BatchOption = None,
    precision: PrecisionOption = "fp32",
    file: Annotated[Path | None, typer.Option("--json", help="where to write the report")] = None,
) -> None:
    """Score a model on a split, or texts in files."""
    positive(steps=steps, samples=samples, batch=batch, limit=limit)
    if file is not None and (not file.name or file.is_dir()):
        raise UserError(f"--json {file}: give the name of a file")
    if decodes is None and (model is None or data is None):
        raise UserError("give --model with --data to score a model, or --decodes to score texts in files")
    if decodes is not None and (
        (steps, sampler, decoder) != (None, None, None) or (samples, guidance, precision) != (1, 1.0, "fp32")
    ):
        raise UserError(
            "--steps, --sampler, --decoder, --guidance, --samples and --precision say how to write; leave them out "
            "with --decodes"
        )
    from dlkit.evaluation.folder import evaluate_folder
    from dlkit.evaluation.protocol import rules
    from dlkit.evaluation.score_files import score_files
    from dlkit.files import write_json
    from dlkit.generator import load

    if protocol is not None:
        rules(protocol)
    more_metrics = [*read_metrics(more), *([] if bertscore is None else [read_bertscore(bertscore)])]
    loaded = None if model is None else load(model, dtype=read_precision(precision))
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
            sampler=read_part("--sampler", sampler),
            decoder=read_part("--decoder", decoder),
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
    positive(draws=draws, limit=limit, batch=batch)
    from dlkit.evaluation.likelihood import likelihood
    from dlkit.files import write_json
    from dlkit.generator import load_teacher

    options = {"limit": limit, "draws": draws, "seed": seed, "batch_size": batch, "padding_counted": count_padding}
    found = likelihood(load_teacher(model), data, split, **options)
    if file is not None:
        write_json(file, found.to_dict())
    typer.echo(found.line())
