"""Decode files: what the original writes is read, what is written can be read again, and one line for each mistake."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from dlkit.data.pairs import Pair, read_split
from dlkit.errors import Notice, UserError
from dlkit.evaluation.decodes import (
    Decodes,
    clamp_of,
    decode,
    marked_pairs,
    read_decodes,
    without_marks,
    write_decodes,
)
from dlkit.exchange import import_teacher
from dlkit.generator import Teacher, load_teacher
from official_run import run_folder

GOLDEN = Path(__file__).parents[1] / "golden/diffuseq"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    base = tmp_path_factory.mktemp("decodes")
    import_teacher(run_folder(base / "run"), base / "teacher")
    return load_teacher(base / "teacher")


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, n: int, k: int) -> None:
    texts = lambda size: data.draw(st.lists(ANY_TEXT, min_size=size, max_size=size))  # noqa: E731
    decodes = Decodes(texts(n), texts(n), [texts(k) for _ in range(n)])
    folder = tmp_path_factory.mktemp("any")
    seeds = data.draw(st.lists(st.integers(0, 200), min_size=k, max_size=k, unique=True).map(sorted))
    written = write_decodes(folder, decodes, seeds, clamp=3)
    assert [file.name for file in written] == [f"seed{seed}_step3.json" for seed in seeds]
    for places in (folder, written):
        read = read_decodes(places)
        assert read == Decodes(decodes.sources, decodes.references, decodes.hypotheses, tuple(written))


def test_the_files_of_the_original(tmp_path: Path) -> None:
    read = read_decodes(GOLDEN / "eval_metrics/decode")
    assert [file.name for file in read.files] == [f"seed{seed}_step0.json" for seed in (102, 105, 106)]
    first = json.loads(read.files[0].read_text().splitlines()[0])
    assert (read.sources[0], read.references[0]) == (first["source"], first["reference"])
    assert read.hypotheses[0][0] == first["recover"]
    assert {len(texts) for texts in read.hypotheses} == {3}
    written = write_decodes(tmp_path, read, (102, 105, 106))
    assert [file.read_bytes() for file in written] == [file.read_bytes() for file in read.files]


def test_seeds_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    write_decodes(tmp_path, Decodes(["s"], ["r"], [["ten", "two", "nine"]]), (10, 2, 9))
    assert read_decodes(tmp_path).hypotheses == [["two", "nine", "ten"]]


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


def test_marks_go_by_replacement() -> None:
    assert without_marks("[CLS] is it [UNK] ? [SEP] [SEP] [PAD]") == " is it [UNK] ?   "
    assert without_marks("[START] x [END]", ("[START]", "[END]")) == " x "


def test_a_seed_is_a_run_of_its_own(teacher: Teacher) -> None:
    pairs = [Pair("w1 w2", ("w3 what", "w4")), Pair("w5 " * 30, ("w6",))]
    decodes = decode(teacher, pairs, seeds=[7, 8], steps=3)
    assert decodes.sources[0] == "[START] w1 w2 [END] [END]"
    assert decodes.sources[1] == "[START] " + "w5 " * 9 + "[END] [END]"  # what generation sees
    assert decodes.references == ["[START] w3 [UNK] [END]", "[START] w6 [END]"]
    for number, seed in enumerate((7, 8)):
        tokens = teacher.generate_tokens([pair.src for pair in pairs], seed=seed, steps=3)
        texts = [teacher.tokenizer.decode_marked(ids) for (ids,) in tokens]
        assert [row[number] for row in decodes.hypotheses] == texts


def test_the_step_in_the_name_is_where_rounding_begins(teacher: Teacher) -> None:
    rounded = teacher.choose_sampler({"name": "ancestral", "rounding": True}, 5)
    assert clamp_of(teacher, rounded) == 0
    assert clamp_of(teacher, teacher.choose_sampler("ddim", 5)) == 60


GOOD = json.dumps({"recover": "a", "reference": "b", "source": "c"})


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ("", "seed2_step0.json is empty"),
        ("{", "seed2_step0.json:1: not valid JSON"),
        ("[]", "seed2_step0.json:1: each line must be an object with the texts recover, reference, source"),
        ('{"recover": "a", "reference": "b"}', "seed2_step0.json:1: each line must be an object"),
        ('{"recover": 1, "reference": "b", "source": "c"}', "seed2_step0.json:1: each line must be an object"),
        (f"{GOOD}\n{GOOD}", "seed1_step0.json has 1 lines"),
        (GOOD.replace('"c"', '"d"'), "seed2_step0.json, text 1: another source than in"),
        (GOOD.replace('"b"', '"d"'), "seed2_step0.json, text 1: another reference than in"),
        ("\udcff", "seed2_step0.json is not UTF-8"),
    ],
)
def test_files_that_cannot_be_scored(second: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "seed1_step0.json").write_text(GOOD + "\n")
    (tmp_path / "seed2_step0.json").write_bytes(second.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as caught:
        read_decodes(tmp_path)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "seed2_step0.json").write_text(GOOD + "\n")
    assert read_decodes(tmp_path).hypotheses == [["a", "a"]]


def test_there_must_be_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no decoded text in"):
        read_decodes(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        read_decodes(tmp_path / "seed1_step0.json")
    with pytest.raises(ValueError, match="2 seeds"):
        write_decodes(tmp_path, Decodes(["s"], ["r"], [["a"]]), (1, 2))
