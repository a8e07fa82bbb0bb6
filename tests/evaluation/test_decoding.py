"""Decode files as they are written: those of the original byte for byte, and what comes back when they are read."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from dlkit.data.pairs import Pair, read_split
from dlkit.errors import Notice
from dlkit.evaluation.decodes import read_decodes
from dlkit.evaluation.decoding import Decoded, clamp_of, decode, marked_pairs, write_decodes
from dlkit.exchange import import_teacher
from dlkit.generator import Teacher, load_teacher
from dlkit.metrics._diffuseq import strip_marks
from official_run import run_folder

GOLDEN = Path(__file__).parents[1] / "golden/diffuseq"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    base = tmp_path_factory.mktemp("decodes")
    import_teacher(run_folder(base / "run"), base / "teacher")
    return load_teacher(base / "teacher")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, n: int, k: int) -> None:
    texts = lambda size: data.draw(st.lists(ANY_TEXT, min_size=size, max_size=size))  # noqa: E731
    decoded = Decoded(texts(n), texts(n), [texts(k) for _ in range(n)])
    folder = tmp_path_factory.mktemp("any")
    seeds = data.draw(st.lists(st.integers(100, 200), min_size=k, max_size=k, unique=True).map(sorted))
    written = write_decodes(folder, decoded, seeds, clamp=3)
    assert [file.name for file in written] == [f"seed{seed}_step3.json" for seed in seeds]
    read = read_decodes(folder)
    assert list(read.files) == written
    assert read.sources == [strip_marks(text, hypothesis=False) for text in decoded.sources]
    assert read.references == [(strip_marks(text, hypothesis=False),) for text in decoded.references]
    assert read.hypotheses == [[strip_marks(text, hypothesis=True) for text in row] for row in decoded.hypotheses]


def test_the_files_of_the_original(tmp_path: Path) -> None:
    files = sorted((GOLDEN / "eval_metrics/decode").glob("*.json"))
    read = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    sources, references = ([line[key] for line in read[0]] for key in ("source", "reference"))
    hypotheses = [[line["recover"] for line in lines] for lines in zip(*read, strict=True)]
    written = write_decodes(tmp_path, Decoded(sources, references, hypotheses), (102, 105, 106))
    assert [file.name for file in files] == [file.name for file in written]
    assert [file.read_bytes() for file in written] == [file.read_bytes() for file in files]


def test_every_seed_has_a_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 seeds"):
        write_decodes(tmp_path, Decoded(["s"], ["r"], [["a"]]), (1, 2))


def test_texts_are_spelt_as_the_original_spells_them() -> None:
    """The recorded program's file, of its last states; its vocabulary and weights lie in the checkpoint's folder."""
    with pytest.warns(Notice):
        model = load_teacher(GOLDEN / "checkpoint")
    lines = [json.loads(line) for line in (GOLDEN / "decode_cli/decoded.json").read_text().splitlines()]
    given = marked_pairs(read_split(GOLDEN / "decode_cli", "test"), model.tokenizer, model.architecture.seq_len)
    assert given == [(line["source"], line["reference"]) for line in lines]
    arrays = load_file(GOLDEN / "decode_cli/data.safetensors")
    tokens = model.denoiser.space.logits(arrays["final_state"]).argmax(-1)
    free = [row[mask == 1].tolist() for row, mask in zip(tokens, arrays["mask"], strict=True)]
    assert [model.tokenizer.decode_marked(ids) for ids in free] == [line["recover"] for line in lines]


def test_a_seed_is_a_run_of_its_own(teacher: Teacher) -> None:
    pairs = [Pair("w1 w2", ("w3 what", "w4")), Pair("w5 " * 30, ("w6",))]
    decodes = decode(teacher, pairs, seeds=[7, 8], steps=3)
    assert decodes.sources[0] == "[START] w1 w2 [END] [END]"
    assert decodes.sources[1] == "[START] " + "w5 " * 10 + "[END] [END]"
    assert decodes.references == ["[START] w3 [UNK] [END]", "[START] w6 [END]"]
    for number, seed in enumerate((7, 8)):
        tokens = teacher.generate_tokens([pair.src for pair in pairs], seed=seed, steps=3)
        texts = [teacher.tokenizer.decode_marked(ids) for (ids,) in tokens]
        assert [row[number] for row in decodes.hypotheses] == texts


def test_the_step_in_the_name_is_where_rounding_begins(teacher: Teacher) -> None:
    rounded = teacher.choose_sampler({"name": "ancestral", "rounding": True}, 5)
    assert clamp_of(teacher, rounded) == 0
    late = {"name": "ancestral", "rounding": True, "rounding_times": (0.5, 1.0)}
    assert clamp_of(teacher, teacher.choose_sampler(late, 5)) == 29  # t = 30/60
    assert clamp_of(teacher, teacher.choose_sampler("ddim", 5)) == 60
