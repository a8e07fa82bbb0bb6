"""Scores of texts in files."""

import json
from pathlib import Path

import pytest

import tiny
from dlkit.data.pairs import Pair, write_split
from dlkit.errors import UserError
from dlkit.evaluation.folder import evaluate_folder
from dlkit.evaluation.score_files import FileScoring, score_files
from dlkit.generator import TextModel, load_teacher
from dlkit.metrics import get
from dlkit.metrics._base import Cases
from dlkit.training.data import HeldOut

TEXTS = [["a b c d", "a b c e", "a b x y z", "a b c d"], ["e f g h", "e f", "e g f h", "i j k l"]]
REFERENCES = ["a b c d e", "e f g h"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four decode files of two sources."""
    (tmp_path / "decodes").mkdir()
    for k in range(4):
        lines = [
            json.dumps({"recover": texts[k], "reference": reference, "source": f"s{n}"})
            for n, (texts, reference) in enumerate(zip(TEXTS, REFERENCES, strict=True))
        ]
        (tmp_path / "decodes" / f"seed{k}.json").write_text("\n".join(lines) + "\n")
    return tmp_path / "decodes"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextModel, Path]:
    """A tiny teacher and its data."""
    folder = tmp_path_factory.mktemp("world")
    data = tiny.corpus(folder / "data")
    return load_teacher(tiny.run_fit(data, folder / "fit")), data


def cases(count: int = 4) -> Cases:
    return Cases(["s0", "s1"], [texts[:count] for texts in TEXTS], [(text,) for text in REFERENCES])


def test_all_files_count_unless_mbr_chooses(folder: Path) -> None:
    report = score_files(folder)
    (row,), protocol = report["models"], FileScoring.model_validate(report["protocol"])
    assert (row["kind"], row["name"], row["num_samples"], row["n_sources"], row["mbr"]) == ("file", "decodes", 4, 2, 0)
    for name in ("bleu", "rouge_l", "dist_1", "self_bleu", "div_4"):
        assert row["metrics"][name] == get(name)().score(cases()), name
    assert row["avg_len"] == pytest.approx(sum(len(text.split()) for texts in TEXTS for text in texts) / 8)
    assert (protocol.name, protocol.diversity_samples, protocol.data) == ("diffuseq", 4, None)
    assert [file.name for file in protocol.files] == [f"seed{k}.json" for k in range(4)]


def test_mbr_takes_quality_of_the_choice_and_diversity_of_three(folder: Path) -> None:
    report = score_files(folder, mbr=4)
    (row,) = report["models"]
    chosen = Cases(["s0", "s1"], [["a b c d"], ["e f g h"]], [(text,) for text in REFERENCES])
    assert row["metrics"]["bleu"] == get("bleu")().score(chosen) and row["avg_len"] == 4
    assert row["metrics"]["self_bleu"] == get("self_bleu")().score(cases(3))
    assert report["protocol"]["diversity_samples"] == 3
    everything = score_files(folder, "dlkit", mbr=4)
    assert everything["models"][0]["metrics"]["self_bleu"] == get("self_bleu")().score(cases())
    assert score_files(folder, mbr=2)["models"][0]["num_samples"] == 2


def test_a_single_file_and_the_first_source(folder: Path) -> None:
    (row,) = score_files(folder / "seed1.json", limit=1)["models"]
    assert (row["num_samples"], row["n_sources"]) == (1, 1) and "self_bleu" not in row["metrics"]
    assert row["metrics"]["rouge_l"] == pytest.approx(2 * 4 / 9)


def test_a_sample_file_scores_as_its_model_did(world: tuple[TextModel, Path], tmp_path: Path) -> None:
    model, data = world
    told = evaluate_folder(model, data, num_samples=4, steps=2, limit=5)
    held_out = HeldOut.read(data, "test", 5)
    texts = model.generate(held_out.sources, num_samples=4, steps=2)
    lines = [json.dumps({"source": s, "hypotheses": h}) for s, h in zip(held_out.sources, texts, strict=True)]
    file = tmp_path / "samples.jsonl"
    file.write_text("\n".join(lines) + "\n")
    for protocol in ("diffuseq", "dlkit"):
        again = score_files(file, protocol, data=data, model=model, limit=5)
        quality = {k: v for k, v in told["models"][0]["metrics"].items() if k not in ("self_bleu", "div_4")}
        assert quality.items() <= again["models"][0]["metrics"].items()
        assert again["protocol"]["reference_text"] == "re-decoded ids"
        assert again["protocol"]["data"] == told["protocol"]["data"]
    raw = score_files(file, "raw", data=data, limit=5)
    assert raw["protocol"]["reference_text"] == "raw"


def test_several_references_of_a_source_count(tmp_path: Path) -> None:
    write_split(tmp_path / "data" / "test.jsonl", [Pair("s", ("x y z w", "a b c d"))])
    file = tmp_path / "samples.jsonl"
    file.write_text('{"source": "s", "hypotheses": ["a b c d"]}\n')
    (row,) = score_files(file, "raw", data=tmp_path / "data")["models"]
    assert row["metrics"]["bleu"] == row["metrics"]["rouge_l"] == 1 and row["metrics"]["sacrebleu"] == pytest.approx(1)


def test_what_does_not_fit_is_refused(folder: Path, world: tuple[TextModel, Path], tmp_path: Path) -> None:
    model, data = world
    file = tmp_path / "samples.jsonl"
    file.write_text('{"source": "s", "hypotheses": ["a"]}\n')
    write_split(tmp_path / "short" / "test.jsonl", [Pair("another", ("t",))])
    write_split(tmp_path / "same" / "test.jsonl", [Pair(" s", ("t",))])
    for path, options, words in [
        (folder, {"mbr": 5}, "mbr=5, but .* has 4 samples"),
        (folder, {"data": data}, "references of their own; leave --data out"),
        (folder, {"model": model}, "references of their own; leave --model out"),
        (folder, {"protocol": "x"}, "no protocol 'x'; choose one of diffuseq, dlkit, raw"),
        (file, {}, "has no references; give the folder with them as --data"),
        (file, {"data": data, "limit": 1, "protocol": "raw"}, "samples.jsonl:1: another source than in"),
        (file, {"data": tmp_path / "same"}, "give the --model that wrote .*, or take --protocol raw"),
        (file, {"data": data, "protocol": "raw"}, "has 1 sources and .*/test has .*say --limit 1"),
        (file, {"data": tmp_path / "short", "protocol": "raw"}, "samples.jsonl:1: another source than in"),
    ]:
        with pytest.raises(UserError, match=words):
            score_files(path, **options)
