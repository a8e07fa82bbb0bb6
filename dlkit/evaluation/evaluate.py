"""One model on held-out texts: a row of the report."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dlkit import metrics
from dlkit.data.pairs import Pair
from dlkit.data.sequences import Overlong, merge_pair, merge_source
from dlkit.data.tokenizer import Tokenizer
from dlkit.decoders._base import Decoder
from dlkit.errors import UserError
from dlkit.evaluation.comparison import compares_samples
from dlkit.evaluation.protocol import ReferenceText
from dlkit.generator import TextModel
from dlkit.metrics._base import Cases, Metric, SourceMetric, mean
from dlkit.metrics._mbr import mbr as choose_by_mbr
from dlkit.metrics.distinct_valid import DistinctValid, total_collapse
from dlkit.samplers._base import Sampler
from dlkit.training.data import HeldOut


@dataclass(frozen=True)
class Row:
    """What was found of one model with one sampler.

    Attributes:
        name: what the report calls it.
        kind: ``teacher`` or ``student``.
        sampler: the sampler's settings.
        nfe: network calls for one text.
        mbr: candidates that minimum Bayes risk chose from; 0 if every sample was scored.
        num_samples, n_sources: texts for each source, and sources.
        metrics: all numbers.
        standard_error: of the metrics that are means over sources, where there are at least two.
        seconds_per_sample: see :data:`dlkit.evaluation.protocol.TIMED`.
    """

    name: str
    kind: str
    sampler: dict[str, Any]
    nfe: int
    mbr: int
    num_samples: int
    n_sources: int
    metrics: dict[str, float]
    standard_error: dict[str, float]
    seconds_per_sample: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as an element of ``models`` in report.json."""
        return asdict(self)


def evaluate(
    model: TextModel,
    held_out: HeldOut,
    *,
    name: str | None = None,
    sampler: str | dict[str, Any] | Sampler | None = None,
    steps: int | None = None,
    num_samples: int = 1,
    mbr: int = 0,
    seed: int = 0,
    batch_size: int = 256,
    decoder: str | dict[str, Any] | Decoder | None = None,
    reference_text: ReferenceText = "re-decoded ids",
) -> tuple[Row, list[list[str]]]:
    """Write texts for all sources and score them with every registered metric whose needs are met.

    With ``mbr=K``, K candidates are written for each source and minimum Bayes risk chooses one, of which quality is
    taken; metrics that compare samples of a source (self-BLEU, div-4, distinct-valid) see all candidates.

    On the grammar corpus the metrics have two yardsticks beside ``distinct_valid``: ``perfect_distinct_valid`` and
    ``collapse_distinct_valid``.

    Args:
        name: of the row; None names kind and sampler.
        sampler, steps, num_samples, seed, batch_size, decoder: see :meth:`dlkit.generator.TextModel.generate`.
        mbr: candidates for minimum Bayes risk; 0 chooses nothing.
        reference_text: see :class:`dlkit.evaluation.protocol.Protocol`.

    Returns:
        the row, and all texts of each source, candidates included.

    Raises:
        UserError: an argument is out of range, there are no sources, or a text does not fit the model.
    """
    if mbr < 0 or (mbr and num_samples not in (1, mbr)):
        raise UserError(f"mbr={mbr} with num_samples={num_samples}: give one of the two, as a positive number")
    chosen = model.choose_sampler(sampler, steps)
    count = mbr or num_samples
    start = time.perf_counter()
    texts = model.generate(
        held_out.sources, num_samples=count, sampler=chosen, seed=seed, batch_size=batch_size, decoder=decoder
    )
    seconds = time.perf_counter() - start
    if reference_text == "re-decoded ids":
        held_out = normalise(held_out, model.tokenizer, model.architecture.seq_len, model.architecture.overlong)
    values, errors = score(held_out.cases(texts), held_out.cases(choose_by_mbr(texts)) if mbr else None)
    row = Row(
        name=name or f"{model.kind} {chosen.registered_name} {chosen.steps}",
        kind=model.kind,
        sampler=chosen.spec(),
        nfe=chosen.steps,
        mbr=mbr,
        num_samples=count,
        n_sources=len(held_out.pairs),
        metrics=values,
        standard_error=errors,
        seconds_per_sample=seconds / (count * len(held_out.pairs)),
    )
    return row, texts


def normalise(held_out: HeldOut, tokenizer: Tokenizer, seq_len: int, overlong: Overlong = "truncate") -> HeldOut:
    """Sources and references as the model would write them: encoded, laid out in ``seq_len`` ids, cut and decoded.

    Sources of the grammar stay as they are, because their correct outputs are looked up by them.

    Raises:
        UserError: a pair does not fit and ``overlong`` is ``"refuse"``.

    Source: DiffuSeq (Gong et al. 2023, arXiv 2210.08933), whose decoding program writes references from their ids.
    """
    marks = {"sep_id": tokenizer.sep_id, "pad_id": tokenizer.pad_id, "overlong": overlong}
    encoded = tokenizer.encode_batch(held_out.sources)
    pairs = []
    for number, (pair, src) in enumerate(zip(held_out.pairs, encoded, strict=True), 1):
        rows = [
            merge_pair(src, trg, seq_len, **marks, where=f"pair {number}") for trg in tokenizer.encode_batch(pair.refs)
        ]
        seen, _ = merge_source(src, seq_len, **marks, where=f"source {number}")
        source = pair.src if held_out.grammar else tokenizer.decode(seen)
        pairs.append(Pair(source, tuple(tokenizer.decode_batch(_target(ids, mask) for ids, mask in rows))))
    return HeldOut(pairs, held_out.grammar)


def _target(ids: list[int], mask: list[int]) -> list[int]:
    return [token for token, free in zip(ids, mask, strict=True) if free]


def score(samples: Cases, chosen: Cases | None = None) -> tuple[dict[str, float], dict[str, float]]:
    """All metrics that apply, and their standard errors.

    Args:
        samples: all texts.
        chosen: the texts whose quality counts, if not all.
    """
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    for name in metrics.registry.usable():
        metric: Metric = metrics.get(name)()
        needs = metric.needs | ({"samples>=2"} if compares_samples(name) else set())
        cases = samples if compares_samples(name) else chosen or samples
        if not needs <= cases.offers:
            continue
        if isinstance(metric, SourceMetric):
            per_source = metric.per_source(cases)
            values[name] = mean(per_source)
            errors |= {name: standard_error(per_source)} if len(per_source) > 1 else {}
        else:
            values[name] = metric.score(cases)
    return values | _yardsticks(samples, values), errors


def _yardsticks(samples: Cases, values: dict[str, float]) -> dict[str, float]:
    """What ``distinct_valid`` is to be read beside."""
    if "distinct_valid" not in values:
        return {}
    return {
        "perfect_distinct_valid": DistinctValid().perfect(samples),
        "collapse_distinct_valid": total_collapse(samples.num_samples),
    }


def standard_error(values: Sequence[float]) -> float:
    """sqrt(sum (v - mean)^2 / (N - 1)) / sqrt(N), for N >= 2 independent values."""
    return statistics.stdev(values) / math.sqrt(len(values))
