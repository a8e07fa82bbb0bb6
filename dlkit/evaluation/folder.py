"""Evaluation of one model on one split of a data folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.evaluation.evaluate import evaluate
from dlkit.evaluation.protocol import Protocol, metric_settings, rules
from dlkit.evaluation.report import report_dict
from dlkit.generator import TextModel
from dlkit.metrics._base import Metric
from dlkit.training.data import HeldOut


def evaluate_folder(
    model: TextModel,
    data: str | Path,
    split: str = "test",
    protocol: str = "diffuseq",
    *,
    limit: int | None = None,
    more_metrics: Sequence[Metric] = (),
    **settings: Any,
) -> dict[str, Any]:
    """The report of one row.

    Args:
        data, split: a data folder and one of its files.
        protocol: its name; see :data:`dlkit.evaluation.protocol.PROTOCOLS`.
        limit: only the first sources.
        more_metrics: metrics beside the usual ones, such as BERTScore.
        settings: of :func:`dlkit.evaluation.evaluate.evaluate`.

    Raises:
        UserError: a protocol, split, setting or model of a metric that does not exist.
    """
    rules(protocol)
    metric_settings(more_metrics)  # what is missing is told before anything is generated
    held_out = HeldOut.read(data, split, limit)
    row, _ = evaluate(model, held_out, protocol=protocol, more_metrics=more_metrics, **settings)
    kept = {key: settings[key] for key in ("seed", "batch_size", "decoder", "guidance") if key in settings}
    described = Protocol.of(
        model,
        data,
        split,
        row.n_sources,
        name=protocol,
        num_samples=row.num_samples,
        mbr=row.mbr,
        more_metrics=more_metrics,
        **kept,
    )
    return report_dict(described, [row])
