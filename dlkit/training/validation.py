"""Validation during a run."""

import math
import warnings

from dlkit import metrics
from dlkit.data.sequences import Layout
from dlkit.errors import Notice
from dlkit.generator import TextModel
from dlkit.metrics._base import Cases, Metric, usual_metrics
from dlkit.part import from_spec
from dlkit.recipe import Evaluation
from dlkit.training.data import HeldOut, HeldOutTexts
from dlkit.training.health import text_health


def metric_of(settings: Evaluation, layout: Layout) -> Metric:
    """The Recipe's metric; if it names none, the usual one of the layout."""
    usual = "bleu" if layout == "pairs" else "ngram_divergence"
    return settings.metric or from_spec(metrics.registry, usual)  # type: ignore[return-value]


def outputs(settings: Evaluation, layout: Layout) -> int:
    """How many texts a validation asks for: of each source, or in all where there are none."""
    return settings.num_samples if layout == "pairs" else settings.n_sources


def check(held_out: HeldOut | HeldOutTexts, metric: Metric, num_samples: int) -> None:
    """Raise ``UserError`` if the metric cannot be had of these texts, before any work is done for it."""
    metric.require(held_out.blank_cases(num_samples))
    metric.identity()


def validate(
    model: TextModel,
    held_out: HeldOut | HeldOutTexts,
    metric: Metric,
    num_samples: int,
    steps: int | None,
    seed: int,
) -> tuple[float, dict[str, float]]:
    """The score by ``metric``, and what else is worth a line of the log: it, the usual metrics and the texts' health.

    The noise of a source is the same at every validation of a run, so that scores differ by the model alone.
    """
    tokens = model.generate_tokens(**held_out.request(num_samples), steps=steps, seed=seed)
    texts = model.decoded(tokens)
    cases = held_out.cases(texts, model.sequences(tokens))
    score = metric.score(cases)
    flat = [token for group in tokens for ids in group for token in ids]
    padding = sum(token == model.tokenizer.pad_id for token in flat) / max(len(flat), 1)
    health = {"pad": padding, **text_health(held_out.sources if isinstance(held_out, HeldOut) else None, texts)}
    return score, {**beside(metric, cases), **health, metric.registered_name: score}


def beside(metric: Metric, cases: Cases) -> dict[str, float]:
    """The other usual metrics: quality without diversity, or the other way round, says little.

    Nobody asked for them, so one that fails, a plugin's perhaps, is left out with a :class:`dlkit.errors.Notice`.
    """
    values: dict[str, float] = {}
    for other in usual_metrics("sources" in cases.offers):
        name = other.registered_name
        if name == metric.registered_name or not other.needs <= cases.offers:
            continue
        try:
            value = float(other.score(cases))
        except Exception as error:
            warnings.warn(f"validation goes on without metric {name!r}: {one_line(error)}", Notice, stacklevel=2)
            continue
        values |= {name: value} if math.isfinite(value) else {}
    return values


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
