"""Models that write without a source, from a data folder to a report."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from dlkit.data.grammar import Grammar
from dlkit.data.texts import write_texts
from dlkit.errors import UserError
from dlkit.evaluation.evaluate import evaluate
from dlkit.evaluation.folder import evaluate_folder
from dlkit.generator import TextModel, load, load_teacher
from dlkit.metrics._base import Cases
from dlkit.metrics.bleu import Bleu
from dlkit.metrics.entropy import Entropy
from dlkit.recipe import Recipe
from dlkit.training.data import HeldOutTexts, data_identity, read_held_out
from dlkit.training.folder import read_log

LAYOUTS = ("padded", "packed")
EVALUATION = {"metric": None, "n_sources": 6, "num_samples": 1}


def changes(layout: str, **more: Any) -> dict[str, Any]:
    """What makes the tiny Recipe one of text without a source."""
    return {"model": {"layout": layout, "overlong": "truncate"}, "evaluation": EVALUATION, **more}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of the built-in grammar: training texts as plain lines, the others as objects."""
    folder = tmp_path_factory.mktemp("texts")
    texts = {split: [pair.trg for pair in Grammar().pairs(split, 60)] for split in ("train", "valid", "test")}
    (folder / "train.txt").write_text("\n".join(texts["train"]))
    for split in ("valid", "test"):
        write_texts(folder / f"{split}.jsonl.gz", texts[split])
    return folder


@pytest.fixture(scope="module", params=LAYOUTS)
def runs(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that was fitted for some steps, and a student that was distilled from it with an adversary."""
    folder, settings = tmp_path_factory.mktemp(request.param), changes(request.param)
    teacher = tiny.run_fit(data, folder / "fit", **settings)
    tiny.run_distill(teacher, data, folder / "distill", **settings, objective="sid", adv=True)
    return folder


@pytest.fixture
def teacher(runs: Path) -> TextModel:
    return load_teacher(runs / "fit")


def test_a_run_validates_by_the_divergence_of_n_grams(runs: Path) -> None:
    for run in ("fit", "distill"):
        lines = [line for line in read_log(runs / run / "log.jsonl") if line["kind"] == "valid"]
        assert lines
        for line in lines:
            assert {"ngram_divergence", "entropy", "distinct_n", "seq_rep_n", "dist_1", "unique", "pad"} <= line.keys()
            assert not {"bleu", "copy", "copy_rate"} & line.keys()
            assert 0 < line["ngram_divergence"] <= 1


def test_a_student_writes_texts(runs: Path) -> None:
    student = load(runs / "distill")
    (texts,) = student.generate(num_samples=7)
    assert len(texts) == 7 and len(set(texts)) > 1
    assert student.architecture.layout == load_teacher(runs / "fit").architecture.layout
    assert not student.architecture.is_conditional


def test_a_text_depends_on_seed_and_number_alone(teacher: TextModel) -> None:
    (ids,) = teacher.generate_tokens(num_samples=5, steps=2, seed=3)
    assert all(len(row) == teacher.architecture.seq_len for row in ids)
    assert teacher.generate_tokens(num_samples=5, steps=2, seed=3, batch_size=2) == [ids]
    assert teacher.generate_tokens(num_samples=2, steps=2, seed=3) == [ids[:2]]
    assert teacher.generate_tokens(num_samples=5, steps=2, seed=4) != [ids]


def test_where_a_text_ends(teacher: TextModel) -> None:
    """Padded: at its end mark. Packed: with the sequence, whose marks are left out."""
    tok = teacher.tokenizer
    first, second = "how is", "it ?"
    assert tok.unk_id not in tok.encode(f"{first} {second}")
    row = [tok.cls_id, *tok.encode(first)[1:], *tok.encode(second)[1:], tok.pad_id]
    packed = teacher.architecture.layout == "packed"
    assert teacher.decoded([[row]]) == [[f"{first} {second}" if packed else first]]
    (whole,) = teacher.sequences([[row]]).texts
    assert whole == f"[CLS] {first} [SEP] {second} [SEP] [PAD]"


def test_what_such_a_model_cannot_do_is_told(teacher: TextModel) -> None:
    for sources in (["where is it ?"], []):
        with pytest.raises(UserError, match="this teacher writes without a source; leave sources out"):
            teacher.generate(sources)
    with pytest.raises(UserError, match="mbr=3 chooses among texts of a source, and this teacher has none"):
        teacher.generate(mbr=3)
    with pytest.raises(UserError, match="guidance=2: this teacher has no sources to be led by"):
        teacher.generate(guidance=2.0)


def test_a_teacher_without_sources_is_not_guided_in_distillation(runs: Path, data: Path, tmp_path: Path) -> None:
    layout = load_teacher(runs / "fit").architecture.layout
    for guidance in ({"teacher": 2.0}, {"condition_dropout": 0.1}):
        with pytest.raises(UserError, match=r"guidance: the teacher writes without a source, .*; leave guidance out"):
            tiny.run_distill(runs / "fit", data, tmp_path / "led", **changes(layout), guidance=guidance)


def test_a_recipe_drops_no_sources_that_are_not_there() -> None:
    with pytest.raises(UserError, match=r"fit\.condition_dropout=0\.1: texts of model\.layout=padded have no source"):
        Recipe.from_dict({"model": {"layout": "padded"}, "fit": {"condition_dropout": 0.1}})


def test_held_out_texts_are_spelt_as_the_model_would(teacher: TextModel) -> None:
    layout, tok = teacher.architecture.layout, teacher.tokenizer
    given = HeldOutTexts(["How IS it?", "how  is   how ? " * 10, "zyzzyva"], layout).normalised(tok, 24)
    if layout == "padded":
        assert given.texts == ["how is it ?", " ".join(["how is how ?"] * 10)[: len(given.texts[1])], "[UNK]"]
        assert len(tok.encode(given.texts[1])) == 24
    else:
        joined = " ".join(["how is it ?", *["how is how ?"] * 10, "[UNK]"])
        assert " ".join(given.texts) == joined
        assert [len(tok.encode(text)) <= 24 for text in given.texts] == [True] * len(given.texts) and len(
            given.texts
        ) > 1


def test_the_identity_of_the_data_is_that_of_the_file_that_is_read(data: Path, tmp_path: Path) -> None:
    found = data_identity(data)
    assert found.keys() == {"train", "valid"}
    (tmp_path / "train.txt").write_bytes((data / "train.txt").read_bytes() + b"more\n")
    assert data_identity(tmp_path)["train"] != found["train"]


def test_the_report(teacher: TextModel, data: Path) -> None:
    layout = teacher.architecture.layout
    report = evaluate_folder(teacher, data, num_samples=5, steps=2, limit=20, more_metrics=[Entropy(of="tokens")])
    (row,), protocol = report["models"], report["protocol"]
    assert row["metrics"].keys() == {"dist_1", "distinct_n", "entropy", "ngram_divergence", "seq_rep_n"}
    assert row["standard_error"].keys() == {"dist_1", "entropy", "seq_rep_n"}
    assert protocol["metrics"].keys() == row["metrics"].keys()
    assert (row["num_samples"], row["n_sources"], row["nfe"], row["mbr"]) == (5, 0, 2, 0)
    assert (protocol["n_sources"], protocol["held_out_texts"], protocol["name"]) == (0, 20, "dlkit")
    assert protocol["settings"]["entropy"] == {"of": "tokens"}
    assert protocol["data"]["split"] == "test" and row["seconds_per_sample"] > 0
    (texts,), (ids,) = (write(num_samples=5, steps=2) for write in (teacher.generate, teacher.generate_tokens))
    held_out = read_held_out(data, "test", layout, 20).normalised(teacher.tokenizer, 24)
    assert isinstance(held_out, HeldOutTexts)
    cases = Cases.without_sources(texts, held_out.texts, teacher.sequences([ids]))
    assert row["metrics"]["entropy"] == pytest.approx(Entropy(of="tokens").score(cases))
    found, _ = evaluate(teacher, read_held_out(data, "test", layout, 20), num_samples=5, steps=2)
    assert found.metrics["ngram_divergence"] == row["metrics"]["ngram_divergence"]


def test_a_report_refuses_what_cannot_be_had_before_it_writes(
    teacher: TextModel, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextModel, "generate_tokens", lambda *_, **__: pytest.fail("it writes"))
    with pytest.raises(UserError, match="metric 'bleu' needs a reference for every source"):
        evaluate_folder(teacher, data, num_samples=5, more_metrics=[Bleu()])
    with pytest.raises(UserError, match="mbr=2 chooses among texts of a source"):
        evaluate_folder(teacher, data, mbr=2)


def test_a_protocol_of_texts_with_a_source_is_refused(
    teacher: TextModel, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextModel, "generate_tokens", lambda *_, **__: pytest.fail("it writes"))
    told = "protocol 'diffuseq' is of texts with a source, and these have none; choose dlkit or raw"
    with pytest.raises(UserError, match=told):
        evaluate_folder(teacher, data, protocol="diffuseq")
    with pytest.raises(UserError, match=told):
        evaluate(teacher, read_held_out(data, "test", teacher.architecture.layout, 2), protocol="diffuseq")


def test_data_of_the_other_kind_is_refused(data: Path, tmp_path: Path) -> None:
    pairs = tiny.corpus(tmp_path / "pairs")
    with pytest.raises(UserError, match=r"this is a pair; give texts, or a model that reads pairs"):
        tiny.run_fit(pairs, tmp_path / "one", **changes("padded"))
    with pytest.raises(UserError, match=r"texts without a source, where pairs are wanted"):
        tiny.run_fit(data, tmp_path / "two")
    with pytest.raises(UserError, match=r"metric 'bleu' needs a reference for every source"):
        tiny.run_fit(data, tmp_path / "three", **changes("padded", evaluation={"metric": "bleu"}))
    assert not any((tmp_path / name).exists() for name in ("one", "two", "three"))
