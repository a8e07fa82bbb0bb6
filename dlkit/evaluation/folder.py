"""Evaluation of one model on one split of a data folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.evaluation.evaluate import evaluate
from dlkit.evaluation.protocol import Protocol, metric_settings, rules
from dlkit.evaluation.report import report_dict
from dlkit.generator import TextModel
from dlkit.metrics._base import Metric
from dlkit.training.data import HeldOut, read_held_out


def evaluate_folder(
    model: TextModel,
    data: str | Path,
    split: str = "test",
    protocol: str | None = None,
    *,
    limit: int | None = None,
    more_metrics: Sequence[Metric] = (),
    **settings: Any,
) -> dict[str, Any]:
    """The report of one row.

    Args:
        data, split: a data folder and one of its files.
        protocol: its name; see :data:`dlkit.evaluation.protocol.PROTOCOLS`. None is ``diffuseq``, and ``dlkit`` of
            texts without a source.
        limit: only the first sources, or held-out texts.
        more_metrics: metrics beside the usual ones, such as BERTScore.
        settings: of :func:`dlkit.evaluation.evaluate.evaluate`.

    Raises:
        UserError: a protocol, split, setting or model of a metric that does not exist.
    """
    architecture = model.architecture
    protocol = protocol or ("diffuseq" if architecture.is_conditional else "dlkit")
    rules(protocol, architecture.is_conditional)
    metric_settings(more_metrics, architecture.is_conditional)  # what is missing is told before anything is generated
    held_out = read_held_out(data, split, architecture.layout, limit)
    row, _ = evaluate(model, held_out, protocol=protocol, more_metrics=more_metrics, **settings)
    kept = {key: settings[key] for key in ("seed", "batch_size", "decoder", "guidance") if key in settings}
    described = Protocol.of(
        model,
        data,
        split,
        row.n_sources,
        held_out_texts=0 if isinstance(held_out, HeldOut) else len(held_out.texts),
        name=protocol,
        num_samples=row.num_samples,
        mbr=row.mbr,
        more_metrics=more_metrics,
        **kept,
    )
    return report_dict(described, [row])
