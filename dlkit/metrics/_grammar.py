"""Which samples a grammar accepts."""

from dlkit.metrics._base import Case


def normalised(text: str) -> str:
    """Single blanks between words, none at the ends: what is left of white space after detokenising is no error."""
    return " ".join(text.split())


def correct_samples(case: Case) -> list[str]:
    """The samples that are correct outputs of the source (never copies of it), with white space normalised."""
    return [text for text in map(normalised, case.hypotheses) if text in case.correct]
