"""Every number of DiffuSeq's evaluation program, for a small made-up decode."""

import json
from itertools import product
from pathlib import Path

import pytest

from dlkit.metrics import get
from dlkit.metrics._base import Cases
from dlkit.metrics._bleu import Sentence, bleu, pairwise_bleu
from dlkit.metrics._diffuseq import strip_marks
from dlkit.metrics._mbr import mbr, mbr_select

FOLDER = Path(__file__).parents[1] / "golden" / "diffuseq" / "eval_metrics"
SCORES = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
META = json.loads((FOLDER / "meta.json").read_text(encoding="utf-8"))
NAMES = {"bleu": "bleu", "rougeL": "rouge_l", "dist1": "dist_1"}
SINGLE = 1e-6  # the recorded ROUGE-L values, and averages over them, are in single precision


def decoded(file: str, field: str) -> list[str]:
    lines = (FOLDER / "decode" / file).read_text(encoding="utf-8").splitlines()
    return [strip_marks(json.loads(line)[field], hypothesis=field == "recover") for line in lines]


FILES = SCORES["file_order"]
SOURCES = decoded(FILES[0], "source")
REFERENCES = [(text,) for text in decoded(FILES[0], "reference")]
SAMPLES = [list(row) for row in zip(*(decoded(file, "recover") for file in FILES), strict=True)]


def scores_of(name: str, hypotheses: list[list[str]]) -> list[float]:
    return get(name)().per_source(Cases(SOURCES, hypotheses, REFERENCES))


@pytest.mark.parametrize("record", SCORES["per_file"], ids=lambda record: record["file"])
@pytest.mark.parametrize("field", ["recover", "reference", "source"])
def test_marks_are_removed_as_recorded(record: dict, field: str) -> None:
    assert decoded(record["file"], field) == record["per_sentence"][field]


@pytest.mark.parametrize("record", SCORES["per_file"], ids=lambda record: record["file"])
def test_lengths_as_recorded(record: dict) -> None:
    lengths = [len(text.split(" ")) for text in decoded(record["file"], "recover")]
    assert lengths == record["per_sentence"]["len"]
    assert sum(lengths) / len(lengths) == pytest.approx(record["averages"]["len"])


@pytest.mark.parametrize("record", SCORES["per_file"], ids=lambda record: record["file"])
@pytest.mark.parametrize("theirs", NAMES)
def test_scores_of_one_sample(record: dict, theirs: str) -> None:
    tolerance = SINGLE if theirs == "rougeL" else 1e-12
    hypotheses = [[text] for text in decoded(record["file"], "recover")]
    assert scores_of(NAMES[theirs], hypotheses) == pytest.approx(record["per_sentence"][theirs], abs=tolerance)
    score = get(NAMES[theirs])().score(Cases(SOURCES, hypotheses, REFERENCES))
    assert score == pytest.approx(record["averages"][theirs], abs=tolerance)
    assert score == pytest.approx(META["averages"]["per_file"][record["file"]][theirs], abs=tolerance)


@pytest.mark.parametrize(("theirs", "ours"), [("self_bleu", "self_bleu"), ("div4", "div_4")])
def test_diversity(theirs: str, ours: str) -> None:
    record = SCORES["diversity"]
    assert scores_of(ours, SAMPLES) == pytest.approx(record[theirs], abs=1e-12)
    score = get(ours)().score(Cases(SOURCES, SAMPLES, REFERENCES))
    assert score == pytest.approx(record["averages"][theirs], abs=1e-7)
    assert score == pytest.approx(META["averages"]["diversity"][theirs], abs=1e-7)


def test_pairwise_bleu() -> None:
    for samples, recorded in zip(SAMPLES, SCORES["mbr"]["pairwise_bleu"], strict=True):
        matrix = pairwise_bleu([Sentence.of(text) for text in samples])
        for i, j in product(range(len(samples)), repeat=2):
            assert matrix[i][j] == pytest.approx(recorded[i][j], abs=1e-12)


def test_mbr_choice() -> None:
    choices = SCORES["mbr"]["choice"]
    assert [mbr_select(samples) for samples in SAMPLES] == [choice["index"] for choice in choices]
    assert mbr(SAMPLES) == [[choice["chosen"]] for choice in choices]
    for samples, choice in zip(SAMPLES, choices, strict=True):
        matrix = pairwise_bleu([Sentence.of(text) for text in samples])
        sums = [sum(row) - row[i] for i, row in enumerate(matrix)]
        assert sums == pytest.approx(choice["scores"], abs=1e-12)


@pytest.mark.parametrize("theirs", NAMES)
def test_scores_of_the_mbr_choice(theirs: str) -> None:
    score = get(NAMES[theirs])().score(Cases(SOURCES, mbr(SAMPLES), REFERENCES))
    tolerance = SINGLE if theirs == "rougeL" else 1e-12
    assert score == pytest.approx(SCORES["mbr"]["averages"][theirs], abs=tolerance)
    assert score == pytest.approx(META["averages"]["mbr"][theirs], abs=tolerance)


@pytest.mark.parametrize(("text", "expected"), list(META["bleu_of_a_sentence_with_itself"].items()))
def test_bleu_of_a_sentence_with_itself(text: str, expected: float) -> None:
    sentence = Sentence.of(text)
    assert bleu(sentence, [sentence]) == pytest.approx(expected, abs=1e-12)
