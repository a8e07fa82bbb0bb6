"""One model on held-out texts: a row of the report."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from dlkit.data.pairs import Pair
from dlkit.data.sequences import Overlong, merge_pair, merge_source
from dlkit.data.tokenizer import Tokenizer
from dlkit.decoders._base import Decoder
from dlkit.errors import UserError
from dlkit.evaluation.comparison import compares_samples
from dlkit.evaluation.protocol import joined, rules
from dlkit.generator import TextModel, candidates
from dlkit.metrics._base import Cases, Metric, SourceMetric, mean, usual_metrics
from dlkit.metrics._mbr import mbr as choose_by_mbr
from dlkit.metrics.distinct_valid import DistinctValid, total_collapse
from dlkit.samplers._base import Sampler
from dlkit.training.data import HeldOut, HeldOutTexts


@dataclass(frozen=True)
class Row:
    """What was found of one model with one sampler.

    Attributes:
        name: what the report calls it.
        kind: ``teacher`` or ``student``.
        sampler: the sampler's settings.
        nfe: network calls for one text.
        mbr: candidates that minimum Bayes risk chose from; 0 if every sample was scored.
        num_samples, n_sources: texts for each source, and sources; texts in all and 0 where there are none.
        metrics: all numbers.
        standard_error: of the metrics that are means over sources, or over texts that have none, where there are at
            least two.
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
    held_out: HeldOut | HeldOutTexts,
    *,
    name: str | None = None,
    sampler: str | dict[str, Any] | Sampler | None = None,
    steps: int | None = None,
    num_samples: int = 1,
    mbr: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
    decoder: str | dict[str, Any] | Decoder | None = None,
    guidance: float = 1.0,
    protocol: str = "dlkit",
    more_metrics: Sequence[Metric] = (),
) -> tuple[Row, list[list[str]]]:
    """Write texts for all sources and score them with every usual metric whose needs are met.

    Of held-out texts without a source ``num_samples`` texts are written in all and compared with them.

    With ``mbr=K``, K candidates are written for each source and minimum Bayes risk chooses one, of which quality is
    taken; metrics that compare samples of a source see the candidates: distinct-valid all of them, self-BLEU and div-4
    as many as the protocol says.

    On the grammar corpus the metrics have two yardsticks beside ``distinct_valid``: ``perfect_distinct_valid`` and
    ``collapse_distinct_valid``.

    Args:
        name: of the row; None names kind and sampler.
        sampler, steps, num_samples, seed, batch_size, decoder, guidance: see
            :meth:`dlkit.generator.TextModel.generate_tokens`.
        mbr: candidates for minimum Bayes risk; 0 chooses nothing.
        protocol: its name; see :data:`dlkit.evaluation.protocol.PROTOCOLS`.
        more_metrics: metrics beside the usual ones, such as BERTScore.

    Returns:
        the row, and all texts of each source, candidates included.

    Raises:
        UserError: an argument is out of range, there are no sources, a text does not fit the model, or a metric that
            was asked for cannot be had of these texts.
    """
    count = candidates(num_samples, mbr)
    settled = rules(protocol, model.architecture.is_conditional)
    if mbr and not model.architecture.is_conditional:
        raise UserError(f"mbr={mbr} chooses among texts of a source, and this {model.kind} has none; leave it out")
    for metric in more_metrics:
        metric.require(held_out.blank_cases(count))
    chosen = model.choose_sampler(sampler, steps)
    start = time.perf_counter()
    written = model.generate_tokens(
        **held_out.request(count),
        sampler=chosen,
        seed=seed,
        batch_size=batch_size,
        decoder=decoder,
        guidance=guidance,
    )
    texts = model.decoded(written)
    seconds = time.perf_counter() - start
    if settled.reference_text == "re-decoded ids":
        held_out = normalise(held_out, model.tokenizer, model.architecture.seq_len, model.architecture.overlong)
    values, errors = score(
        held_out.cases(texts, model.sequences(written)),
        held_out.cases(choose_by_mbr(texts)) if mbr else None,
        compared=settled.compared(count),
        more_metrics=more_metrics,
    )
    row = Row(
        name=name or f"{model.kind} {chosen.registered_name} {chosen.steps}" + _led_by(guidance),
        kind=model.kind,
        sampler=chosen.spec(),
        nfe=model.calls(chosen, guidance),
        mbr=mbr,
        num_samples=count,
        n_sources=held_out.n_sources,
        metrics=values,
        standard_error=errors,
        seconds_per_sample=seconds / sum(map(len, texts)),
    )
    return row, texts


def _led_by(guidance: float) -> str:
    return "" if guidance == 1.0 else f" guidance {guidance:g}"


def normalise(held_out: Any, tokenizer: Tokenizer, seq_len: int, overlong: Overlong = "truncate") -> Any:
    """Sources and references as the model would write them: encoded, laid out in ``seq_len`` ids, cut and decoded.

    Held-out texts without a source likewise.

    Sources of the grammar stay as they are, because their correct outputs are looked up by them.

    Raises:
        UserError: a pair does not fit and ``overlong`` is ``"refuse"``.

    Source: DiffuSeq (Gong et al. 2023, arXiv 2210.08933), whose decoding program writes references from their ids.
    """
    if isinstance(held_out, HeldOutTexts):
        return held_out.normalised(tokenizer, seq_len, overlong)
    marks = {"sep_id": tokenizer.sep_id, "pad_id": tokenizer.pad_id, "overlong": overlong}
    encoded = tokenizer.encode_batch(held_out.sources)
    references = iter(tokenizer.encode_batch([ref for pair in held_out.pairs for ref in pair.refs]))
    seen, targets = [], []
    for number, (pair, src) in enumerate(zip(held_out.pairs, encoded, strict=True), 1):
        for trg in islice(references, len(pair.refs)):
            targets.append(_target(*merge_pair(src, trg, seq_len, **marks, where=f"pair {number}")))
        seen.append(merge_source(src, seq_len, **marks, where=f"source {number}")[0])
    sources = held_out.sources if held_out.grammar else tokenizer.decode_batch(seen)
    texts = iter(tokenizer.decode_batch(targets))
    pairs = [
        Pair(source, tuple(islice(texts, len(pair.refs)))) for source, pair in zip(sources, held_out.pairs, strict=True)
    ]
    return HeldOut(pairs, held_out.grammar)


def _target(ids: list[int], mask: list[int]) -> list[int]:
    return [token for token, free in zip(ids, mask, strict=True) if free]


def score(
    samples: Cases,
    chosen: Cases | None = None,
    *,
    compared: int | None = None,
    more_metrics: Sequence[Metric] = (),
) -> tuple[dict[str, float], dict[str, float]]:
    """All metrics that apply, and their standard errors.

    Args:
        samples: all texts.
        chosen: the texts whose quality counts, if not all.
        compared: how many samples self-BLEU and div-4 compare, the first ones; None: all.
        more_metrics: metrics beside the usual ones; one of the same name takes its place.

    Raises:
        UserError: a metric of ``more_metrics`` needs what the texts do not offer.
    """
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    few = samples.first(compared)
    for metric in joined(usual_metrics("sources" in samples.offers), more_metrics):
        name = metric.registered_name
        needs = metric.needs | ({"samples>=2"} if compares_samples(name) else set())
        cases = few if "samples>=2" in metric.needs else samples if compares_samples(name) else chosen or samples
        if metric in more_metrics:
            metric.require(cases)
        elif not needs <= cases.offers:
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
