"""Rows, protocols and timings of tiny random models."""

import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dlkit import metrics
from dlkit.data.grammar import Grammar
from dlkit.data.pairs import Pair, write_split
from dlkit.data.tokenizer import make_tokenizer
from dlkit.errors import UserError
from dlkit.evaluation import timing
from dlkit.evaluation.evaluate import Row, evaluate, normalise, score, standard_error
from dlkit.evaluation.protocol import Protocol, device_name
from dlkit.evaluation.timing import NetworkClock, fewest_steps, time_models
from dlkit.generator import Architecture, OneStepGenerator, Teacher
from dlkit.metrics._base import Cases, usual_metrics
from dlkit.metrics._mbr import mbr
from dlkit.recipe import Recipe
from dlkit.training.data import HeldOut

GRAMMAR = Grammar()
PAIRS = GRAMMAR.pairs("test", 6)
TOKENIZER = make_tokenizer("train:word:200", [form for m in GRAMMAR.meanings() for form in GRAMMAR.forms(m)])
DIVERSITY = {"self_bleu", "div_4", "distinct_valid", "perfect_distinct_valid", "collapse_distinct_valid"}
USUAL = {metric.registered_name for metric in usual_metrics()}
ON_GRAMMAR = {"exact_validity", "distinct_valid", "perfect_distinct_valid", "collapse_distinct_valid"}


def architecture(sampler: str, seq_len: int = 24, overlong: str = "truncate") -> Architecture:
    return Architecture.model_validate(
        {
            "family": "diffuseq",
            "space": {"name": "embedding", "dim": 8},
            "process": "gaussian",
            "backbone": {"name": "diffuseq", "layers": 1, "hidden": 16, "heads": 2, "ff": 16, "time_dim": 8},
            "decoder": "linear_head",
            "sampler": sampler,
            "vocab_size": TOKENIZER.vocab_size,
            "seq_len": seq_len,
            "overlong": overlong,
        }
    )


def model(cls: type, sampler: str):
    parts = architecture(sampler)
    return cls(parts.build(), TOKENIZER, parts, Recipe())


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return model(Teacher, "ddim")


@pytest.fixture(scope="module")
def student() -> OneStepGenerator:
    return model(OneStepGenerator, "one_step")


def test_a_row_on_plain_text_has_every_metric_that_applies(teacher: Teacher) -> None:
    row, texts = evaluate(teacher, HeldOut(PAIRS, None), steps=3, num_samples=2)
    assert (row.name, row.kind) == ("teacher ddim 3", "teacher")
    assert (row.nfe, row.num_samples, row.mbr, row.n_sources) == (3, 2, 0, 6)
    assert row.sampler == teacher.choose_sampler("ddim", 3).spec()
    assert set(row.metrics) == USUAL - ON_GRAMMAR
    assert [len(group) for group in texts] == [2] * 6
    assert row.seconds_per_sample > 0
    assert Row(**row.to_dict()) == row


def test_a_row_counts_the_calls_that_were_made(teacher: Teacher) -> None:
    size = teacher.architecture.process.noise_schedule.steps
    row, _ = evaluate(teacher, HeldOut(PAIRS, None), sampler={"name": "ddim_legacy", "gap": size // 2 - 1})
    assert row.nfe == 3


def test_a_row_on_the_grammar_has_yardsticks(student: OneStepGenerator) -> None:
    row, _ = evaluate(student, HeldOut(PAIRS, GRAMMAR), num_samples=2, name="mine")
    assert row.name == "mine" and row.nfe == 1
    assert set(row.metrics) == USUAL | ON_GRAMMAR
    assert row.metrics["collapse_distinct_valid"] == 0.5
    assert 0.9 < row.metrics["perfect_distinct_valid"] < 1


def test_one_sample_has_no_diversity(student: OneStepGenerator) -> None:
    row, _ = evaluate(student, HeldOut(PAIRS, GRAMMAR))
    assert set(row.metrics) == USUAL - DIVERSITY


def test_standard_errors_are_those_of_the_mean_over_sources(teacher: Teacher) -> None:
    held_out = HeldOut(PAIRS, None)
    row, texts = evaluate(teacher, held_out, steps=2)
    bleu = metrics.get("bleu")()
    values = bleu.per_source(normalise(held_out, TOKENIZER, 24).cases(texts))
    assert row.metrics["bleu"] == pytest.approx(statistics.mean(values))
    assert row.standard_error["bleu"] == pytest.approx(statistics.stdev(values) / math.sqrt(6))
    assert "sacrebleu" not in row.standard_error
    assert standard_error([1.0, 3.0]) == 1.0


def test_a_single_source_has_no_standard_error(student: OneStepGenerator) -> None:
    assert evaluate(student, HeldOut(PAIRS[:1], None))[0].standard_error == {}


def test_mbr_scores_the_choice_and_takes_diversity_from_all_candidates(teacher: Teacher) -> None:
    held_out = HeldOut(PAIRS, GRAMMAR)
    row, texts = evaluate(teacher, held_out, steps=2, mbr=4)
    assert (row.mbr, row.num_samples) == (4, 4) and all(len(group) == 4 for group in texts)
    normal = normalise(held_out, TOKENIZER, 24)
    assert mbr(texts) == teacher.generate(held_out.sources, steps=2, mbr=4)
    assert row.metrics["rouge_l"] == metrics.get("rouge_l")().score(normal.cases(mbr(texts)))
    assert row.metrics["self_bleu"] == metrics.get("self_bleu")().score(normal.cases(texts))
    assert row.metrics["collapse_distinct_valid"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"mbr": -1}, "at least 2 candidates"), ({"mbr": 4, "num_samples": 2}, "give one of the two")],
)
def test_contradictory_samples_are_refused(student: OneStepGenerator, arguments: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        evaluate(student, HeldOut(PAIRS, None), **arguments)


def test_texts_are_a_function_of_the_seed(student: OneStepGenerator) -> None:
    texts = [evaluate(student, HeldOut(PAIRS, None), seed=seed)[1] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_normalise_gives_texts_as_the_model_writes_them() -> None:
    held_out = HeldOut([Pair("  Where CAN i buy Shoes in Paris?", ("Who sells shoes in paris?", "zyzzyva ?"))], None)
    pair = normalise(held_out, TOKENIZER, 24).pairs[0]
    assert pair.src == "where can i buy shoes in paris ?"
    assert pair.refs == ("who sells shoes in paris ?", "[UNK] ?")


def test_normalise_cuts_as_the_model_does() -> None:
    held_out = HeldOut([Pair("where can i buy shoes", ("who sells shoes in paris ?",))], None)
    pair = normalise(held_out, TOKENIZER, 11).pairs[0]
    assert pair.src == "where can i buy" and pair.refs == ("who sells shoes",)
    with pytest.raises(UserError, match="pair 1: 7 source and 8 target ids"):
        normalise(held_out, TOKENIZER, 11, "refuse")


def test_normalise_leaves_sources_of_the_grammar_to_be_looked_up() -> None:
    unknowing = make_tokenizer("train:word:20", [PAIRS[0].src])
    normal = normalise(HeldOut(PAIRS, GRAMMAR), unknowing, 24)
    assert normal.sources == [pair.src for pair in PAIRS]
    assert "[UNK]" in normal.pairs[1].refs[0]


def test_a_copy_counts_against_the_source_as_the_model_read_it() -> None:
    held_out = normalise(HeldOut([Pair("Is Rome wet in May?", ("is may wet in rome ?",))], None), TOKENIZER, 24)
    assert score(held_out.cases([["is rome wet in may ?"]]))[0]["copy_rate"] == 1.0


def test_raw_references_stay_as_they_are(student: OneStepGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Cases] = []
    real = score
    spy = lambda cases, *rest, **more: seen.append(cases) or real(cases, *rest, **more)  # noqa: E731
    monkeypatch.setattr("dlkit.evaluation.evaluate.score", spy)
    held_out = HeldOut([Pair("Is Rome wet ?", ("Yes, in May!",))], None)
    evaluate(student, held_out, protocol="raw")
    evaluate(student, held_out)
    written = TOKENIZER.decode(TOKENIZER.encode("Yes, in May!"))
    assert [cases.references[0][0] for cases in seen] == ["Yes, in May!", written] and written != "Yes, in May!"


def test_the_protocol_names_everything(student: OneStepGenerator, tmp_path: Path) -> None:
    write_split(tmp_path / "qqp" / "test.jsonl", PAIRS)
    protocol = Protocol.of(student, tmp_path / "qqp", "test", 6, name="diffuseq", mbr=3, decoder="nearest")
    assert protocol.data.folder == "qqp" and len(protocol.data.sha256) == 64
    assert (protocol.num_samples, protocol.mbr, protocol.decoder) == (3, 3, {"name": "nearest", "metric": "l2"})
    assert set(protocol.metrics) == USUAL
    assert protocol.metrics["bleu"].endswith(f"(dlkit {protocol.versions['dlkit']})")
    assert protocol.precision == "float32" and protocol.versions["torch"] == torch.__version__
    assert protocol.device and Protocol.model_validate_json(protocol.model_dump_json()) == protocol


def test_an_unknown_protocol_or_split_is_refused(student: OneStepGenerator, tmp_path: Path) -> None:
    write_split(tmp_path / "test.jsonl", PAIRS)
    with pytest.raises(UserError, match="no protocol 'x'; choose one of diffuseq, dlkit, raw"):
        Protocol.of(student, tmp_path, "test", 6, name="x")
    with pytest.raises(UserError, match="no valid data"):
        Protocol.of(student, tmp_path, "valid", 6)


def test_a_device_has_a_name_where_the_system_lists_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert device_name(torch.device("cpu"))


def test_timing_measures_and_derives(teacher: Teacher, student: OneStepGenerator) -> None:
    few = {"bleu": [row("teacher", "ddim", 3, 0.5), row("teacher", "ancestral", 2, 0.5)]}
    measured = time_models(teacher, student, [pair.src for pair in PAIRS], rounds=2, few_steps=few)
    assert (measured["n_sources"], measured["rounds"], measured["full_steps"]) == (6, 2, 2000)
    speedup, seconds = measured["speedup"], measured["seconds"]
    assert all(value > 0 for name, value in seconds.items())
    assert all(low <= seconds[name] <= high for name, (low, high) in measured["spread"].items())
    assert seconds["ancestral_full"] >= 2000 * seconds["ancestral_step"]
    found = speedup["few_step"]
    assert found["steps"] == found["sampler"]["steps"] in (2, 3)
    few_seconds = [seconds["few_step_ddim_3"], seconds["few_step_ancestral_2"]]
    assert found["factor"] == pytest.approx(min(few_seconds) / seconds["student"])
    factors = {"full_ancestral", "full_ancestral_rounded", "end_to_end", "network"}
    assert all(speedup[name] > 100 for name in factors)
    assert set(speedup["how"]) == {*factors, "few_step"}


def test_the_full_run_follows_from_two_short_ones(
    teacher: Teacher, student: OneStepGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # overhead 2 and 0.5 a step; with rounding 2 and 1; a network call takes .25, the student 2.25 in all
    spread = {
        "student": [9.0, 2.25, 1.0],
        "student_network": [0.25],
        "teacher_network": [1.0],
        "ancestral_4": [4.0],
        "ancestral_12": [8.0],
        "ancestral_rounded_4": [6.0],
        "ancestral_rounded_12": [14.0],
        "few_step_ddim_5": [9.0],
        "few_step_ancestral_8": [4.5],
        "few_step_ddim_5_rounding": [18.0],
    }
    rounded = replace(row("teacher", "ddim", 5, 0.5), sampler={"name": "ddim", "steps": 5, "rounding": True})
    few = {"bleu": [row("teacher", "ddim", 5, 0.5), row("teacher", "ancestral", 8, 0.5)], "exact_validity": [rounded]}
    monkeypatch.setattr(timing, "_rounds", lambda measures, rounds: {name: spread[name] for name in measures})
    found = time_models(teacher, student, ["a"], few_steps=few, full_steps=100)
    assert found["seconds"]["ancestral_full"] == 52 and found["seconds"]["ancestral_rounded_full"] == 102
    assert found["spread"]["student"] == [1.0, 9.0]
    speedup = found["speedup"]
    assert speedup["full_ancestral"] == 200 and speedup["full_ancestral_rounded"] == 400 and speedup["network"] == 100
    assert speedup["end_to_end"] == pytest.approx(102 / 2.25) and speedup["few_step"]["factor"] == 2.0
    assert speedup["few_step"]["steps"] == 8 and "BLEU" in speedup["few_step"]["chosen_by"]
    assert speedup["few_step_validity"]["factor"] == 8.0 and speedup["few_step_validity"]["sampler"] == rounded.sampler
    assert "exact validity" in speedup["how"]["few_step_validity"]


def test_no_number_of_few_steps_claims_nothing(teacher: Teacher, student: OneStepGenerator) -> None:
    measured = time_models(teacher, student, [PAIRS[0].src], rounds=1)
    few = measured["speedup"]["few_step"]
    assert few["steps"] is None and few["factor"] is None and "none of the teacher's" in few["chosen_by"]
    assert not [name for name in measured["seconds"] if name.startswith("few_step")]
    assert "few_step_validity" not in measured["speedup"]


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([], {}, "0 sources"),
        (["a"], {"rounds": 0}, "0 rounds"),
        (["a"], {"full_steps": 4000}, "more than the 2000 steps"),
    ],
)
def test_timing_refuses(
    teacher: Teacher, student: OneStepGenerator, sources: list[str], options: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        time_models(teacher, student, sources, **options)


def test_the_network_clock_leaves_no_hooks(teacher: Teacher) -> None:
    with NetworkClock(teacher.denoiser) as clock:
        teacher.generate(["is rome wet ?"], steps=2)
    measured = clock.seconds
    teacher.generate(["is rome wet ?"], steps=2)
    assert clock.seconds == measured > 0


def row(kind: str, sampler: str, nfe: int, bleu: float) -> Row:
    return Row(f"{kind} {nfe}", kind, {"name": sampler, "steps": nfe}, nfe, 0, 1, 9, {"bleu": bleu}, {}, 0.1)


def test_fewest_steps_takes_the_cheapest_good_run_of_each_sampler() -> None:
    rounded = replace(row("teacher", "ddim", 16, 0.5), sampler={"name": "ddim", "steps": 16, "rounding": True})
    rows = [
        row("teacher", "ddim", 50, 0.5),
        row("teacher", "ddim", 10, 0.4),
        row("teacher", "ddim", 4, 0.3),
        row("teacher", "ancestral", 20, 0.9),
        row("teacher", "renoise", 41, 0.9),
        row("student", "ddim", 1, 0.9),
        replace(row("teacher", "ddim", 2, 0.9), mbr=10),
        rounded,
    ]
    assert fewest_steps(rows, row("student", "one_step", 1, 0.4)) == [rows[1], rounded, rows[3]]
    assert fewest_steps(rows, row("student", "one_step", 1, 0.95)) == []
    assert fewest_steps([row("teacher", "ancestral", 2000, 0.9)], row("student", "one_step", 1, 0.4)) == []
    without = Row("t", "teacher", {"name": "ddim"}, 1, 0, 1, 9, {}, {}, 0.1)
    assert fewest_steps([without], row("student", "one_step", 1, 0.0)) == []


def test_fewest_steps_by_another_metric() -> None:
    def valid(kind: str, nfe: int, value: float) -> Row:
        return replace(row(kind, "ddim", nfe, 0.5), metrics={"bleu": 0.5, "exact_validity": value})

    rows = [valid("teacher", 2, 0.3), valid("teacher", 20, 0.7)]
    assert fewest_steps(rows, valid("student", 1, 0.6)) == [rows[0]]
    assert fewest_steps(rows, valid("student", 1, 0.6), "exact_validity") == [rows[1]]
