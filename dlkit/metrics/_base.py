"""What is scored (:class:`Cases`) and what scores it (:class:`Metric`)."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dlkit import metrics
from dlkit.errors import UserError
from dlkit.part import Part

NEEDS = {
    "sources": "texts that were written for sources",
    "texts": "held-out texts that the samples, written without a source, should be like",
    "references": "a reference for every source",
    "samples>=2": "two or more samples of every source",
    "grammar": "a corpus whose correct outputs are known, such as the built-in grammar",
}


@dataclass(frozen=True)
class Sequences:
    """Whole sequences as a model wrote them, marks and padding included.

    Attributes:
        ids: of each sequence.
        texts: the same, decoded with every mark.
    """

    ids: Sequence[Sequence[int]]
    texts: Sequence[str]


@dataclass(frozen=True)
class Case:
    """One source with what was generated for it.

    Attributes:
        source: the input text.
        hypotheses: S samples.
        references: human answers; may be empty.
        correct: every correct output but the source itself; empty where no grammar is known.
    """

    source: str
    hypotheses: Sequence[str]
    references: Sequence[str]
    correct: frozenset[str]


@dataclass(frozen=True)
class Cases:
    """All sources of an evaluation.

    Attributes:
        sources: N texts.
        hypotheses: S samples of each source, the same S everywhere, so that a mean over sources is one over samples.
        references: N tuples, an empty one where a source has no reference.
        paraphrases: gives all correct outputs of a source without the source itself; ``None`` unless the corpus is a
            grammar.
        held_out: of texts that were written without a source those they should be like, perhaps none; ``None`` where
            there are sources.
        sequences: what such texts were read from, one for each, where that is known.

    Raises:
        UserError: no source, lists of different lengths, no samples, or not equally many for every source.
    """

    sources: Sequence[str]
    hypotheses: Sequence[Sequence[str]]
    references: Sequence[Sequence[str]]
    paraphrases: Callable[[str], frozenset[str]] | None = None
    held_out: Sequence[str] | None = None
    sequences: Sequences | None = None

    @classmethod
    def without_sources(
        cls, texts: Sequence[str], held_out: Sequence[str] = (), sequences: Sequences | None = None
    ) -> "Cases":
        """Texts that were written without a source, each a case of its own; its source is empty.

        Raises:
            UserError: there are no texts.
        """
        if not texts:
            raise UserError("there are no texts to score; give at least one")
        return cls([""] * len(texts), [[text] for text in texts], [()] * len(texts), None, held_out, sequences)

    def __post_init__(self) -> None:
        self._check_lengths()
        for row, samples in enumerate(self.hypotheses, 1):
            if isinstance(samples, str):
                raise UserError(f"source {row}: hypotheses are one text; give a list of texts, even for one sample")
            if len(samples) != self.num_samples or not samples:
                raise UserError(
                    f"source {row} has {len(samples)} samples, source 1 has {self.num_samples}; "
                    "give every source the same number, at least one"
                )
        for row, references in enumerate(self.references, 1):
            if isinstance(references, str):
                raise UserError(f"source {row}: references are one text; give a list of texts, even for one reference")

    def _check_lengths(self) -> None:
        count = len(self.sources)
        if not count:
            raise UserError("there are no sources to score; give at least one")
        for name in ("hypotheses", "references"):
            found = len(getattr(self, name))
            if found != count:
                raise UserError(f"{count} sources but {name} for {found}; give one entry per source, in the same order")

    @property
    def num_samples(self) -> int:
        """S, the number of samples of each source."""
        return len(self.hypotheses[0])

    @property
    def offers(self) -> frozenset[str]:
        """Which of the needs of a metric are met here."""
        met = {
            "sources": self.held_out is None,
            "texts": bool(self.held_out),
            "references": all(self.references),
            "samples>=2": self.num_samples >= 2,
            "grammar": self.paraphrases is not None,
        }
        return frozenset(need for need, is_met in met.items() if is_met)

    def first(self, count: int | None) -> "Cases":
        """These cases with the first ``count`` samples of each source only; with all of them if ``count`` is None."""
        return replace(self, hypotheses=[samples[:count] for samples in self.hypotheses])

    def each(self) -> Iterator[Case]:
        """The sources one by one."""
        for source, samples, references in zip(self.sources, self.hypotheses, self.references, strict=True):
            # Whoever supplies the grammar, a copy of the source never counts as correct.
            correct = self.paraphrases(source) - {source} if self.paraphrases else frozenset()
            yield Case(source, samples, references, correct)


class Metric(Part):
    """A number for a set of cases; its fields are its settings.

    Attributes:
        higher_is_better: the direction of improvement.
        needs: what the cases must offer, out of ``sources``, ``references``, ``samples>=2``, ``grammar`` and ``texts``.
        on_request: an evaluation computes it only where it is asked for, because it needs more than the texts.
        for_texts: it is about a body of texts, whatever they were written for. An evaluation of texts without a source
            computes it unasked, one of texts with sources where it is asked for.
    """

    higher_is_better: ClassVar[bool]
    needs: ClassVar[frozenset[str]] = frozenset()
    on_request: ClassVar[bool] = False
    for_texts: ClassVar[bool] = False

    @abstractmethod
    def score(self, cases: Cases) -> float:
        """The number.

        Raises:
            UserError: the cases lack something the metric needs.
        """

    def identity(self) -> dict[str, Any]:
        """What beside the texts its numbers depend on, as plain data: its settings.

        Raises:
            UserError: something that the settings name is not there.
        """
        return self.model_dump(mode="json")

    def require(self, cases: Cases) -> None:
        """Raise ``UserError`` unless the cases offer what the metric needs."""
        for need in sorted(self.needs - cases.offers):
            raise UserError(f"metric {self.registered_name!r} needs {NEEDS[need]}; leave it out or supply that")


class SourceMetric(Metric):
    """A metric that is a mean over sources: ``score = 1/N * sum_n of_source(case_n)``."""

    @abstractmethod
    def of_source(self, case: Case) -> float:
        """The value of one source."""

    def per_source(self, cases: Cases) -> list[float]:
        """The value of each source, from which a standard error can be had. Raises ``UserError`` as ``score`` does."""
        self.require(cases)
        return [self.of_source(case) for case in cases.each()]

    def score(self, cases: Cases) -> float:
        """Mean over sources. Raises ``UserError`` where the cases lack something the metric needs."""
        return mean(self.per_source(cases))


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, summed exactly so that the order of the values does not matter."""
    return math.fsum(values) / len(values)


def usual_metrics(sources: bool = True) -> list[Metric]:
    """Every registered metric that can be used and need not be asked for, with its default settings.

    Args:
        sources: whether the texts were written for sources. Else those that need any are left out.
    """
    parts = [metrics.get(name) for name in metrics.registry.usable()]
    fit = [part for part in parts if (not part.for_texts if sources else part.needs <= {"texts"})]
    return [part() for part in fit if not part.on_request]
