"""Validation during a run."""

from dlkit.generator import TextModel
from dlkit.metrics._base import Metric
from dlkit.training.data import HeldOut
from dlkit.training.health import text_health


def check(held_out: HeldOut, metric: Metric, num_samples: int) -> None:
    """Raise ``UserError`` if the metric cannot be had of these texts, before any work is done for it."""
    metric.require(held_out.cases([[""] * num_samples] * len(held_out.pairs)))


def validate(
    model: TextModel, held_out: HeldOut, metric: Metric, num_samples: int, steps: int | None, seed: int
) -> tuple[float, dict[str, float]]:
    """A score and the health of a model's texts.

    The noise of a source is the same at every validation of a run, so that scores differ by the model alone.
    """
    tokens = model.generate_tokens(held_out.sources, num_samples=num_samples, steps=steps, seed=seed)
    texts = [[model.tokenizer.decode(model.until_end(ids)) for ids in group] for group in tokens]
    score = metric.score(held_out.cases(texts))
    flat = [token for group in tokens for ids in group for token in ids]
    padding = sum(token == model.tokenizer.pad_id for token in flat) / max(len(flat), 1)
    return score, {"pad": padding, **text_health(held_out.sources, texts)}
