"""Our BLEU and ROUGE-L against the libraries that DiffuSeq's protocol names."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.metrics import get
from dlkit.metrics._base import Cases
from dlkit.metrics._bleu import Sentence, bleu
from dlkit.metrics._mbr import mbr_select

few_words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9).map(" ".join)
odd_words = st.lists(st.sampled_from(["Red", "red", "blue.", "3.5", "café", "?", "  ", "x-y", "STRASSE"]), max_size=7)


def nltk_bleu(hypothesis: str, references: list[str]) -> float:
    score = pytest.importorskip("nltk.translate.bleu_score")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return score.sentence_bleu(
            [text.split() for text in references],
            hypothesis.split(),
            smoothing_function=score.SmoothingFunction().method4,
        )


@settings(max_examples=300, deadline=None)
@given(few_words, st.lists(few_words, min_size=1, max_size=3))
def test_bleu_is_nltks(hypothesis: str, references: list[str]) -> None:
    ours = bleu(Sentence.of(hypothesis), [Sentence.of(text) for text in references])
    assert ours == pytest.approx(nltk_bleu(hypothesis, references), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(few_words, min_size=2, max_size=5))
def test_mbr_choice_maximises_nltks_bleu(samples: list[str]) -> None:
    gains = [sum(nltk_bleu(one, [samples[j]]) for j in range(len(samples)) if j != i) for i, one in enumerate(samples)]
    chosen = mbr_select(samples)
    assert gains[chosen] == pytest.approx(max(gains), abs=1e-9)
    assert samples.index(samples[chosen]) == chosen, "of equal texts the first is chosen"


@settings(max_examples=150, deadline=None)
@given(odd_words.map(" ".join), st.lists(odd_words.map(" ".join), min_size=1, max_size=3))
def test_rouge_l_is_torchmetrics(hypothesis: str, references: list[str]) -> None:
    rouge_score = pytest.importorskip("torchmetrics.functional.text.rouge").rouge_score
    theirs = rouge_score(hypothesis, [references], rouge_keys="rougeL")["rougeL_fmeasure"].item()
    ours = get("rouge_l")().score(Cases(["s"], [[hypothesis]], [tuple(references)]))
    assert ours == pytest.approx(theirs, abs=1e-6)
