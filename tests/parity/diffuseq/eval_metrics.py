"""Every number of DiffuSeq's evaluation program, for the decode files of the case."""

from collections.abc import Sequence
from typing import Any

import torch

from dlkit.evaluation.decodes import average_length, read_decodes
from dlkit.evaluation.score_files import score_files
from dlkit.metrics import get
from dlkit.metrics._base import Cases
from dlkit.metrics._bleu import Sentence, bleu, pairwise_bleu
from dlkit.metrics._mbr import gains, mbr, mbr_select
from parity.cases import Case

NAMES = {"bleu": "bleu", "rougeL": "rouge_l", "dist1": "dist_1", "self_bleu": "self_bleu", "div4": "div_4"}
EXACT = 1e-12
SINGLE = 1e-6  # recorded ROUGE-L values, and averages over sources, were computed in single precision
PARTS = {"file_order", "per_file", "diversity", "mbr"}


def check(case: Case) -> None:
    scores, averages, folder = case.json("scores"), case.meta["averages"], case.folder / "decode"
    decodes = read_decodes(folder)
    assert scores.keys() == PARTS and averages.keys() == PARTS - {"file_order"}
    assert [file.name for file in decodes.files] == scores["file_order"]
    assert len(decodes.sources) == case.config["samples"] and len(decodes.files) == case.config["hypotheses"]
    assert averages["per_file"].keys() == set(scores["file_order"])
    for record in scores["per_file"]:
        check_file(case, record)
        check_averages(folder / record["file"], 0, record["averages"], averages["per_file"][record["file"]])
    check_diversity(Cases(decodes.sources, decodes.hypotheses, decodes.references), scores["diversity"])
    check_averages(folder, 0, scores["diversity"]["averages"], averages["diversity"])
    check_mbr(decodes.hypotheses, scores["mbr"])
    check_averages(folder, len(decodes.files), scores["mbr"]["averages"], averages["mbr"])
    for text, expected in case.meta.get("bleu_of_a_sentence_with_itself", {}).items():
        near([bleu(Sentence.of(text), [Sentence.of(text)])], [expected])


def check_file(case: Case, record: dict[str, Any]) -> None:
    """One sample of each source."""
    decodes = read_decodes(case.folder / "decode" / record["file"])
    hypotheses = [text for (text,) in decodes.hypotheses]
    recorded = dict(record["per_sentence"])
    assert hypotheses == recorded.pop("recover")
    assert [text for (text,) in decodes.references] == recorded.pop("reference")
    assert list(decodes.sources) == recorded.pop("source")
    assert [average_length([text]) for text in hypotheses] == recorded.pop("len")
    cases = Cases(decodes.sources, decodes.hypotheses, decodes.references)
    assert recorded.keys() == {"bleu", "rougeL", "dist1"}
    for theirs, values in recorded.items():
        near(get(NAMES[theirs])().per_source(cases), values, SINGLE if theirs == "rougeL" else EXACT)


def check_diversity(cases: Cases, recorded: dict[str, Any]) -> None:
    """The samples of a source beside each other."""
    assert recorded.keys() == {"averages", "self_bleu", "div4"}
    for theirs in ("self_bleu", "div4"):
        near(get(NAMES[theirs])().per_source(cases), recorded[theirs])


def check_mbr(hypotheses: Sequence[Sequence[str]], recorded: dict[str, Any]) -> None:
    """What minimum Bayes risk chooses, and why."""
    assert recorded.keys() == {"averages", "pairwise_bleu", "choice"}
    for samples, matrix, choice in zip(hypotheses, recorded["pairwise_bleu"], recorded["choice"], strict=True):
        near(pairwise_bleu([Sentence.of(text) for text in samples]), matrix)
        assert choice.keys() == {"index", "chosen", "scores"}
        near(gains(samples).tolist(), choice["scores"])
        assert mbr_select(samples) == choice["index"] and mbr([samples]) == [[choice["chosen"]]]


def check_averages(path: Any, candidates: int, *recorded: dict[str, float]) -> None:
    """The numbers that ``dlkit eval --decodes`` gives of a file or folder."""
    (row,) = score_files(path, mbr=candidates)["models"]
    ours = {theirs: row["metrics"].get(name) for theirs, name in NAMES.items()} | {"len": row["avg_len"]}
    for averages in recorded:
        near([ours[name] for name in averages], list(averages.values()), SINGLE)


def near(ours: Any, theirs: Any, atol: float = EXACT) -> None:
    as_tensor = [torch.tensor(values, dtype=torch.float64) for values in (ours, theirs)]
    torch.testing.assert_close(*as_tensor, rtol=0, atol=atol)
