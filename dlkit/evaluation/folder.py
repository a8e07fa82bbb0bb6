"""Evaluation of one model on one split of a data folder."""

from pathlib import Path
from typing import Any

from dlkit.errors import UserError
from dlkit.evaluation.evaluate import evaluate
from dlkit.evaluation.protocol import Protocol, ReferenceText
from dlkit.evaluation.report import report_dict
from dlkit.generator import TextModel
from dlkit.training.data import HeldOut

PROTOCOLS: dict[str, ReferenceText] = {"diffuseq": "re-decoded ids", "dlkit": "re-decoded ids", "raw": "raw"}


def evaluate_folder(
    model: TextModel,
    data: str | Path,
    split: str = "test",
    protocol: str = "diffuseq",
    *,
    limit: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The report of one row.

    Args:
        data, split: a data folder and one of its files.
        protocol: ``diffuseq`` scores against references as the model would write them, ``raw`` against the file's text.
        limit: only the first sources.
        settings: of :func:`dlkit.evaluation.evaluate.evaluate`.

    Raises:
        UserError: a protocol, split or setting that does not exist.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    held_out = HeldOut.read(data, split, limit)
    row, _ = evaluate(model, held_out, reference_text=PROTOCOLS[protocol], **settings)  # type: ignore[arg-type]
    kept = {key: settings[key] for key in ("seed", "batch_size", "decoder") if key in settings}
    described = Protocol.of(
        model,
        data,
        split,
        row.n_sources,
        name=protocol if protocol != "raw" else "dlkit",
        num_samples=row.num_samples,
        mbr=row.mbr,
        reference_text=PROTOCOLS[protocol],
        **kept,  # type: ignore[arg-type]
    )
    return report_dict(described, [row])
