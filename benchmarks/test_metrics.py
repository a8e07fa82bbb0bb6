"""DiffuSeq's scores of many samples, beside a program that calls nltk pair by pair."""

import random
from itertools import combinations

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.util import ngrams

from dlkit.metrics import get
from dlkit.metrics._base import Cases
from dlkit.metrics._mbr import mbr

SAMPLES, COMPARED = 10, 3

Scores = tuple[list[list[str]], float, float, float]


def corpus(sources: int) -> list[list[str]]:
    """For each source variants of one sentence of 12 words, as a model's samples are: some words differ, or lack."""
    rng = random.Random(0)
    vocabulary = [f"word{k}" for k in range(5000)]
    frequency = [1 / (k + 1) for k in range(5000)]
    noise = iter(rng.choices(vocabulary, frequency, k=sources * SAMPLES * 20))

    def variant(words: list[str]) -> str:
        changed = [word if rng.random() > 0.2 else next(noise) for word in words]
        return " ".join(changed[: 12 - rng.randrange(3)])

    sentences = [[next(noise) for _ in range(12)] for _ in range(sources)]
    return [[variant(words) for _ in range(SAMPLES)] for words in sentences]


def pair_by_pair(hypotheses: list[list[str]]) -> Scores:
    """What a program that calls nltk for each pair does."""
    smooth = SmoothingFunction().method4

    def bleu(hypothesis: str, reference: str) -> float:
        return sentence_bleu([reference.split()], hypothesis.split(), smoothing_function=smooth)

    def choice(samples: list[str]) -> str:
        pairs = np.array([[bleu(one, other) for other in samples] for one in samples])
        np.fill_diagonal(pairs, 0)
        return samples[pairs.sum(-1).argmax()]

    def div_4(samples: list[str]) -> float:
        pooled = [gram for text in samples for gram in ngrams(text.split(), 4)]
        return len(set(pooled)) / len(pooled)

    few = [samples[:COMPARED] for samples in hypotheses]
    self_bleu = [sum(bleu(*pair) for pair in combinations(samples, 2)) / 3 for samples in few]
    words = [text.split() for samples in hypotheses for text in samples]
    dist_1 = sum(len(set(text)) / len(text) for text in words) / len(words)
    chosen = [[choice(samples)] for samples in hypotheses]
    return chosen, sum(self_bleu) / len(few), sum(map(div_4, few)) / len(few), dist_1


def dlkit_metrics(hypotheses: list[list[str]]) -> Scores:
    cases = Cases([""] * len(hypotheses), hypotheses, [()] * len(hypotheses))
    few = cases.first(COMPARED)
    return mbr(hypotheses), get("self_bleu")().score(few), get("div_4")().score(few), get("dist_1")().score(cases)


def test_scores_of_samples(versus, quick):
    sources = 20 if quick else 60
    hypotheses = corpus(sources)
    chosen, *numbers = dlkit_metrics(hypotheses)
    expected_choice, *expected = pair_by_pair(hypotheses)
    assert chosen == expected_choice
    assert numbers == pytest.approx(expected, abs=1e-12)
    versus(
        f"MBR, self-BLEU, div-4 and dist-1, {sources} sources of {SAMPLES} samples",
        ours=lambda: dlkit_metrics(hypotheses),
        reference=lambda: pair_by_pair(hypotheses),
        bar=8.0,
        note="nltk pair by pair",
    )
