"""Plaid's files: what is wrong with them is told in a line, and nothing else is needed to read them."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dlkit
import tiny
from command_line import Command, refused
from dlkit import schedules
from dlkit.data.sequences import Rows
from dlkit.errors import UserError
from dlkit.evaluation.likelihood import likelihood, of_rows
from dlkit.exchange import export_teacher
from dlkit.generator import Teacher, load_teacher
from dlkit.part import from_spec
from dlkit.samplers.plaid import PlaidSampler, spelled
from dlkit.teachers._base import FitBatch, ReadOptions
from dlkit.teachers._sniff import sniff
from dlkit.teachers.plaid import Plaid
from plaid_tokenizer import write_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden/plaid/weights"
FILES = ("noise_schedule", "gamma_bounds", "embedding_matrix", "model")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The recorded checkpoint with a tokenizer."""
    folder = tmp_path / "run"
    folder.mkdir()
    for file in FILES:
        (folder / f"{file}.pt").write_bytes((GOLDEN / f"{file}.pt").read_bytes())
    write_tokenizer(folder / "owt2_tokenizer.json", 101)
    return folder


def edited(folder: Path, file: str, change: Callable[[dict], object]) -> None:
    tensors = torch.load(folder / f"{file}.pt", weights_only=True)
    change(tensors)
    torch.save(tensors, folder / f"{file}.pt")


def test_it_is_known_by_its_files(run: Path) -> None:
    family = sniff(run)
    assert family is not None
    assert family.registered_name == "plaid"
    assert sniff(run.parent) is None
    assert family.read(run / "model.pt", ReadOptions()).file == run / "model.pt"


@pytest.mark.parametrize("file", FILES)
def test_one_of_its_files_means_its_folder(file: str, run: Path, tmp_path: Path, command: Command) -> None:
    assert command("import", run / f"{file}.pt", "--out", tmp_path / "out")[0] == 0
    assert load_teacher(tmp_path / "out").architecture.family.registered_name == "plaid"


@pytest.mark.parametrize("one", FILES[:3])
def test_one_of_its_own_files_beside_the_network_is_enough_to_know_it(
    one: str, run: Path, tmp_path: Path, command: Command
) -> None:
    gone = [file for file in FILES[:3] if file != one]
    for file in gone:
        (run / f"{file}.pt").unlink()
    for path in (run, run / "model.pt"):
        refused(
            command("import", path, "--out", tmp_path / "out"), f"lacks {gone[0]}.pt and {gone[1]}.pt; a checkpoint"
        )
    (run / f"{one}.pt").unlink()
    for path in (run, run / "model.pt"):
        refused(command("import", path, "--out", tmp_path / "out"), "is no official checkpoint; give")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--step", 7), ("--tie", "ema"), ("--tie", "lm_head"), ("--raw",)])
def test_options_that_say_nothing_of_it_are_refused(
    option: tuple[object, ...], run: Path, tmp_path: Path, command: Command
) -> None:
    told = f"checkpoints of 'plaid' leave no choice to {option[0]}; leave it out"
    refused(command("import", run, "--out", tmp_path / "out", *option), told)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "dlkit.json"),
        ("[]", "dlkit.json"),
        ('{"foo": 1}', "unknown key 'foo'"),
        ('{"seq_len": 4}', "seq_len: Input should be greater than or equal to 8 (got 4)"),
        ('{"lowest": 2}', "lowest: Input should be less than or equal to 0.5 (got 2)"),
        ('{"family": "plai"}', "nothing is called 'plai'"),
        ('{"fit": 3}', "fit: Input should be a valid dictionary (got 3)"),
    ],
)
def test_odd_settings_beside_the_files_are_refused(
    said: str, message: str, run: Path, tmp_path: Path, command: Command
) -> None:
    (run / "dlkit.json").write_text(said)
    refused(command("import", run, "--out", tmp_path / "out"), message)


def test_odd_settings_of_its_fit_are_left_out_with_a_notice(run: Path, tmp_path: Path, command: Command) -> None:
    fit = {"steps": "x", "time_sampler": "nobody", "batch_size": 7, "optimizer": {"lr": -1, "eps": 1e-7}, "more": 1}
    (run / "dlkit.json").write_text(json.dumps({"fit": fit}))
    code, _, err = command("import", run, "--out", tmp_path / "out")
    assert code == 0
    told = [line.partition("left out of the Recipe's fit: ")[2] for line in err.splitlines()]
    for line, begin in zip(told, ("steps: ", "time_samplers: ", "optimizer.lr: ", "unknown key 'more'"), strict=True):
        assert line.startswith(begin), line
    found = load_teacher(tmp_path / "out").recipe.fit
    assert (found.batch_size, found.optimizer.eps, found.steps) == (7, 1e-7, type(found)().steps)


WRONG = [
    (lambda run: (run / "gamma_bounds.pt").unlink(), r"lacks gamma_bounds.pt; a checkpoint of Plaid is"),
    (
        lambda run: (run / "owt2_tokenizer.json").unlink(),
        r"has no tokenizer; put tokenizer.json or owt2_tokenizer.json",
    ),
    (lambda run: write_tokenizer(run / "tokenizer.json", 90), r"has 90 ids, the embedding in .*matrix.pt 101"),
    (lambda run: (run / "model.pt").write_bytes(b"no"), r"model.pt is damaged"),
    (lambda run: edited(run, "model", lambda t: t.pop("output_norm.weight")), r"model.pt lacks output_norm.weight"),
    (lambda run: edited(run, "model", lambda t: t.update(more=torch.ones(1))), r"model.pt has the unknown more"),
    (lambda run: edited(run, "noise_schedule", lambda t: t.update(b1=torch.ones(3))), r"b1 has shape \(3,\)"),
    (lambda run: edited(run, "embedding_matrix", lambda t: t.update(matrix=torch.ones(101, 5))), r"shape \(32, 8\)"),
    (lambda run: edited(run, "embedding_matrix", lambda t: t.update(matrix=torch.ones(5))), r"not 2 dimensions"),
    (lambda run: edited(run, "gamma_bounds", lambda t: t.update(gamma_1=torch.tensor(-9.0))), r"noise would not grow"),
    (lambda run: edited(run, "noise_schedule", lambda t: t["b1"].fill_(90.0)), r"schedule is saturated"),
    (
        lambda run: edited(run, "model", lambda t: t["output_linear.bias"].fill_(torch.nan)),
        r"values that are not finite",
    ),
]


@pytest.mark.parametrize(("damage", "message"), WRONG)
def test_what_is_wrong_is_told_in_a_line(
    run: Path, damage: Callable[[Path], object], message: str, tmp_path: Path, command: Command
) -> None:
    damage(run)
    code, out, err = command("import", run, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err), err
    assert not (tmp_path / "out").exists()


def test_only_its_own_parts_have_a_place_in_the_files(tmp_path: Path) -> None:
    teacher = tiny.run_fit(tiny.corpus(tmp_path / "data"), tmp_path / "fit")
    with pytest.raises(UserError, match="the format plaid has no place for the space 'embedding'"):
        export_teacher(teacher, tmp_path / "out", "plaid")


def test_a_text_is_bounded_and_padding_does_not_count_in_packed_rows(run: Path) -> None:
    teacher: Teacher = load_teacher(run)  # type: ignore[assignment]
    ids = torch.arange(64).view(2, 32) % 7
    rows = [Rows(ids, torch.ones_like(ids, dtype=torch.bool), 0)]
    found = of_rows(teacher, rows, {}, draws=4)
    assert (found.n_rows, found.n_tokens, found.draws) == (2, 64, 4)
    assert found.nats_per_token == pytest.approx(sum(found.terms.values()))
    assert found.bits_per_token == pytest.approx(found.nats_per_token * 1.4426950408889634)
    again = of_rows(teacher, rows, {}, draws=4, batch_size=1)
    assert again.nats_per_token == pytest.approx(found.nats_per_token, rel=1e-4)


def test_a_packed_row_that_texts_do_not_fill_is_measured_at_its_length(run: Path, tmp_path: Path) -> None:
    """Nothing is left out, in a split of one short text as in a longer one, and it is told."""
    teacher: Teacher = load_teacher(run)  # type: ignore[assignment]
    (tmp_path / "short.txt").write_text("abcdefgh\n")
    (tmp_path / "long.txt").write_text("abcdefgh" * 40 + "\n")
    short, long = (likelihood(teacher, tmp_path, split, draws=1) for split in ("short", "long"))
    assert (short.n_rows, short.n_tokens, short.last_row, short.standard_error) == (1, 11, 11, None)
    assert "tokens in 1 rows, the last of only 11 ids, 1 draws" in short.line()
    assert (long.n_rows, long.n_tokens, long.last_row) == (2, 256 + 69, 69)
    assert long.standard_error is not None


def test_the_bound_comes_with_its_protocol(run: Path) -> None:
    teacher: Teacher = load_teacher(run)  # type: ignore[assignment]
    ids = torch.zeros(2, 256, dtype=torch.long)
    found = of_rows(teacher, [Rows(ids, torch.ones_like(ids, dtype=torch.bool), 1)], {}, draws=1)
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    expected = {"seq_len": 256, "layout": "packed", "overlong": "truncate", "n_truncated": 1, "last_row": None}
    assert kept.items() >= expected.items()
    assert (kept["tokenizer"]["name"], kept["tokenizer"]["vocab_size"]) == ("owt2_tokenizer.json", 101)
    assert len(kept["tokenizer"]["sha256"]) == 64
    assert kept["versions"]["dlkit"] == dlkit.__version__
    assert "in 2 rows, 1 of them cut to 256 ids, 1 draws" in found.line()
    assert "cut" not in replace(found, n_truncated=0).line()


def test_a_bound_that_is_no_number_is_refused(run: Path) -> None:
    teacher: Teacher = load_teacher(run)  # type: ignore[assignment]
    ids = torch.arange(64).view(2, 32) % 7
    teacher.denoiser.space.matrix.data[3] = torch.nan  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"its term 'reconst' is not finite in 2 of 2 rows; .* take another checkpoint"):
        of_rows(teacher, [Rows(ids, torch.ones_like(ids, dtype=torch.bool), 0)], {}, draws=1)


def test_the_prior_is_that_of_all_rows_and_informed_ones_teach_it_nothing(run: Path) -> None:
    """However rows are weighted, the mean is the divergence, and its slope -a (s + d a) / 2 of those not informed."""
    denoiser = load_teacher(run).denoiser
    informed = torch.tensor([True, False, False, True, False, False])
    rest = torch.tensor([True, True, False, False, False, False])
    batch = FitBatch(
        ids=torch.arange(60).view(6, 10),
        mask=torch.ones(6, 10, dtype=torch.bool),
        t=torch.where(rest, denoiser.process.noise_schedule.t_min, 0.5),
        normal=lambda name: torch.zeros(6, 10, 8),
        uniform=lambda name, *shape: 1.0 - informed.double(),
        weight=torch.where(rest, 3.0, 1.5),
    )
    prior = (batch.weight * Plaid(split=0.0).losses(denoiser, batch)["prior"]).mean()
    gamma_1: torch.Tensor = denoiser.schedule.gamma_1  # type: ignore[union-attr, assignment]
    a, s = (torch.sigmoid(sign * gamma_1.detach().double()) for sign in (-1, 1))
    torch.testing.assert_close(prior.detach(), 0.5 * (a + 8 * (s - 1.0 - s.log())), rtol=1e-5, atol=0)
    (slope,) = torch.autograd.grad(prior, gamma_1)
    torch.testing.assert_close(slope.double(), -0.5 * a * (s + 8 * a) * 4 / 6, rtol=1e-5, atol=0)


def test_guidance_spells_a_prefix_under_inference_mode(run: Path) -> None:
    """The tiny network was never trained; heavy constraints decide what it writes."""
    teacher: Teacher = load_teacher(run)  # type: ignore[assignment]
    wishes = (*spelled([11, 12, 13], weight=30.0), *spelled([21], start=6, weight=30.0))
    sampler = PlaidSampler(steps=16, guidance=wishes)
    tokens = teacher.generate_tokens(num_samples=2, sampler=sampler)[0]
    for text in tokens:
        assert (text[:3], text[6]) == ([11, 12, 13], 21)
    free = teacher.generate_tokens(num_samples=2, sampler=PlaidSampler(steps=16))[0]
    assert free != tokens


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"token": 500}, "token 500 is none of the 101"),
        ({"token": 5, "position": 4000}, "position 4000 is outside a text of 256 tokens"),
    ],
)
def test_what_cannot_be_wished_for_is_told(run: Path, wish: dict, message: str) -> None:
    teacher: Teacher = load_teacher(run)  # type: ignore[assignment]
    with pytest.raises(UserError, match=message):
        teacher.generate_tokens(sampler={"name": "plaid", "steps": 2, "guidance": [wish]})


@pytest.mark.parametrize("schedule", ["rectified_flow", "trig", {"name": "token_accuracy", "vocab_size": 50}])
def test_a_schedule_that_leaves_nothing_of_the_text_is_refused(schedule: Any) -> None:
    with pytest.raises(UserError, match=r"sampler 'plaid' divides by alpha, .* \(alpha = 0\); take ddim"):
        PlaidSampler(steps=2).calls(from_spec(schedules.registry, schedule))


@pytest.mark.parametrize("schedule", ["sqrt", "karras", "learned_gamma"])
def test_a_schedule_that_leaves_something_of_it_is_taken(schedule: str) -> None:
    assert PlaidSampler(steps=2).calls(from_spec(schedules.registry, schedule)) == 2


def test_times_that_leave_out_a_term_are_refused(tmp_path: Path) -> None:
    data = tiny.corpus(tmp_path / "data")
    model = {
        "family": "plaid",
        "space": {"name": "unit_norm", "dim": 4},
        "process": {"name": "gaussian", "schedule": {"name": "learned_gamma", "hidden": 4}},
        "backbone": {"name": "plaid", "layers": 1, "hidden": 16, "heads": 2},
        "prediction": "prior_logits",
    }
    with pytest.raises(UserError, match=r"fit.time_sampler=uniform: teachers of 'plaid' have a term at t_min"):
        tiny.run_fit(data, tmp_path / "fit", model=model, fit={"time_sampler": "uniform"})
    teacher = tiny.run_fit(data, tmp_path / "vlb", model=model, fit={"steps": 4})
    assert load_teacher(teacher).recipe.fit.time_sampler.registered_name == "vlb"
