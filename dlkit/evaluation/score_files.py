"""Scores of texts that lie in files, by whichever program they were written."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dlkit.data.splits import fingerprint
from dlkit.errors import UserError
from dlkit.evaluation.decodes import average_length, holds_samples, read_decodes, read_samples
from dlkit.evaluation.evaluate import normalise, score
from dlkit.evaluation.protocol import (
    DataIdentity,
    ReferenceText,
    Scoring,
    metric_definitions,
    metric_settings,
    rules,
    versions,
)
from dlkit.generator import TextModel
from dlkit.metrics._base import Cases, Metric
from dlkit.metrics._grammar import normalised
from dlkit.metrics._mbr import mbr as choose_by_mbr
from dlkit.recipe.settings import Spec
from dlkit.training.data import HeldOut


class FileIdentity(Spec):
    """A file that was scored.

    Attributes:
        name: without where it lies.
        sha256: of its content.
    """

    name: str
    sha256: str


class FileScoring(Scoring):
    """How the numbers of texts in files came about.

    Attributes:
        files: that hold the texts.
        data: where the references are from, if not from those files.
    """

    files: list[FileIdentity]
    data: DataIdentity | None


@dataclass(frozen=True)
class FileRow:
    """What was found of texts in files.

    Attributes:
        name: of the file or folder.
        kind: ``file``.
        mbr: candidates that minimum Bayes risk chose from; 0 if every sample was scored.
        num_samples, n_sources: texts of each source, and sources.
        metrics: all numbers.
        standard_error: of the metrics that are means over sources, where there are at least two.
        avg_len: mean length of the texts whose quality counts, see
            :func:`dlkit.evaluation.decodes.average_length`.
    """

    name: str
    kind: str
    mbr: int
    num_samples: int
    n_sources: int
    metrics: dict[str, float]
    standard_error: dict[str, float]
    avg_len: float


def score_files(
    path: str | Path,
    protocol: str = "diffuseq",
    *,
    data: str | Path | None = None,
    split: str = "test",
    model: TextModel | None = None,
    mbr: int = 0,
    limit: int | None = None,
    more_metrics: Sequence[Metric] = (),
) -> dict[str, Any]:
    """The report of one row on DiffuSeq's decode files, or on a file of ``dlkit sample``.

    With ``mbr=K``, minimum Bayes risk chooses among the first K samples of each source, of which quality is taken.
    Without it every sample counts, for self-BLEU and div-4 too: how many were written was decided by whoever wrote.

    Args:
        path: a decode file, a folder of them, or a file of ``dlkit sample``.
        protocol: its name; see :data:`dlkit.evaluation.protocol.PROTOCOLS`.
        data, split: where the references of a file of ``dlkit sample`` are; decode files have their own.
        model: passes those references through its tokenizer, where the protocol asks for that.
        mbr: candidates for minimum Bayes risk; 0 chooses nothing.
        limit: only the first sources.
        more_metrics: metrics beside the usual ones, such as BERTScore.

    Raises:
        UserError: a file is missing, damaged or does not fit the others or the data; an argument is missing, has no
            use here or is out of range.
    """
    settled, settings = rules(protocol), metric_settings(more_metrics)
    if holds_samples(path):
        given = _with_references(path, data, split, limit, settled.reference_text, model)
    else:
        given = _with_their_own(path, data, limit, model)
    cases = given.cases.first(_candidates(path, given.cases.num_samples, mbr))
    chosen = replace(cases, hypotheses=choose_by_mbr(cases.hypotheses)) if mbr else cases
    compared = settled.compared(mbr) if mbr else cases.num_samples
    values, errors = score(cases, chosen, compared=compared, more_metrics=more_metrics)
    counts = {"mbr": mbr, "num_samples": cases.num_samples, "n_sources": len(cases.sources)}
    length = average_length([text for samples in chosen.hypotheses for text in samples])
    row = FileRow(name=Path(path).name, kind="file", metrics=values, standard_error=errors, avg_len=length, **counts)
    described = FileScoring(
        name=protocol,  # type: ignore[arg-type]
        diversity_samples=compared,
        reference_text=given.reference_text,
        metrics=metric_definitions(more_metrics),
        settings=settings,
        versions=versions(),
        files=[FileIdentity(name=file.name, sha256=_sha256(file)) for file in given.files],
        data=given.data,
        **counts,
    )
    return {"protocol": described.model_dump(mode="json"), "models": [asdict(row)], "speedup": {}}


@dataclass(frozen=True)
class Given:
    """Texts with their references, and where both are from."""

    files: Sequence[Path]
    cases: Cases
    reference_text: ReferenceText
    data: DataIdentity | None = None


def _with_their_own(path: str | Path, data: str | Path | None, limit: int | None, model: TextModel | None) -> Given:
    for option, value in (("data", data), ("model", model)):
        if value is not None:
            raise UserError(f"{path}: decode files have references of their own; leave --{option} out")
    decodes = read_decodes(path).first(limit)
    cases = Cases(decodes.sources, decodes.hypotheses, decodes.references)
    return Given(decodes.files, cases, "as in the files")


def _with_references(
    path: str | Path,
    data: str | Path | None,
    split: str,
    limit: int | None,
    reference_text: ReferenceText,
    model: TextModel | None,
) -> Given:
    """The samples with the references of the data set, in the form that the protocol wants."""
    if data is None:
        raise UserError(f"{path} has no references; give the folder with them as --data")
    samples, held_out = read_samples(path).first(limit), HeldOut.read(data, split, limit)
    _check_sources(path, samples.sources, f"{data}/{split}", held_out.sources)
    if reference_text == "re-decoded ids":
        if model is None:
            raise UserError(
                f"this protocol passes references through the model's tokenizer; give the --model that wrote {path}, "
                "or take --protocol raw"
            )
        held_out = normalise(held_out, model.tokenizer, model.architecture.seq_len, model.architecture.overlong)
    identity = DataIdentity(folder=Path(data).resolve().name, split=split, sha256=fingerprint(data, split))
    cases = held_out.cases([list(texts) for texts in samples.hypotheses])
    return Given(samples.files, cases, reference_text, identity)


def _candidates(path: str | Path, num_samples: int, mbr: int) -> int:
    if mbr > num_samples:
        raise UserError(f"mbr={mbr}, but {path} has {num_samples} samples of each source; choose among those at most")
    return mbr or num_samples


def _check_sources(path: str | Path, ours: Sequence[str], where: str, theirs: Sequence[str]) -> None:
    if len(ours) != len(theirs):
        raise UserError(
            f"{path} has {len(ours)} sources and {where} has {len(theirs)}; if the file holds the first ones, "
            f"say --limit {min(len(ours), len(theirs))}"
        )
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
        if normalised(one) != normalised(other):
            raise UserError(f"{path}:{number}: another source than in {where}; give the data that was sampled from")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
