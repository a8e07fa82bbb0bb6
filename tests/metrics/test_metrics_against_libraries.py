"""Our BLEU and ROUGE-L against the libraries that DiffuSeq's protocol names."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.metrics import get
from dlkit.metrics._base import Cases
from dlkit.metrics._bleu import Sentence, bleu, pairwise_bleu
from dlkit.metrics._mbr import gains, mbr_select

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


@settings(max_examples=300)
@given(few_words, st.lists(few_words, min_size=1, max_size=3))
def test_bleu_is_nltks(hypothesis: str, references: list[str]) -> None:
    ours = bleu(Sentence.of(hypothesis), [Sentence.of(text) for text in references])
    assert ours == pytest.approx(nltk_bleu(hypothesis, references), abs=1e-12)


@settings(max_examples=50)
@given(st.lists(few_words, min_size=2, max_size=11))
def test_mbr_takes_what_nltk_and_numpy_take(samples: list[str]) -> None:
    # to the last bit: otherwise the choice between two samples of equal gain would fall by rounding
    matrix = np.array([[nltk_bleu(one, [other]) for other in samples] for one in samples])
    assert np.array_equal(pairwise_bleu([Sentence.of(text) for text in samples]), matrix)
    np.fill_diagonal(matrix, 0)
    assert gains(samples).tolist() == matrix.sum(-1).tolist()
    assert mbr_select(samples) == matrix.sum(-1).argmax()


@settings(max_examples=150)
@given(odd_words.map(" ".join), st.lists(odd_words.map(" ".join), min_size=1, max_size=3))
def test_rouge_l_is_torchmetrics(hypothesis: str, references: list[str]) -> None:
    rouge_score = pytest.importorskip("torchmetrics.functional.text.rouge").rouge_score
    theirs = rouge_score(hypothesis, [references], rouge_keys="rougeL")["rougeL_fmeasure"].item()
    ours = get("rouge_l")().score(Cases(["s"], [[hypothesis]], [tuple(references)]))
    assert ours == pytest.approx(theirs, abs=1e-6)
