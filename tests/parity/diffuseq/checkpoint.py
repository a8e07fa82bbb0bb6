"""A run folder as the original trainer leaves it: read, written, and read again, tensor by tensor."""

import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from dlkit.diffusion import time_samplers
from dlkit.errors import Notice
from dlkit.exchange import export_teacher, import_teacher
from dlkit.generator import load_teacher
from dlkit.teachers._base import ReadOptions
from dlkit.teachers._diffuseq_read import POSITIONS, TABLES, TIME_SAMPLERS
from dlkit.teachers._tensors import read_tensors
from dlkit.teachers.diffuseq import official_state
from parity.cases import Case


def check(case: Case) -> None:
    file = max(case.folder.glob("ema_*.pt"))
    tensors, beside = read_tensors(file)
    assert beside == []
    assert list(tensors) == case.meta["state_dict_keys_in_order"]
    assert_equal(tensors, case.arrays("model"))
    with TemporaryDirectory() as base:
        for tie in TABLES:
            check_a_tie(case, file, tensors, tie, Path(base) / tie)
        check_the_way_out_and_back(case, file, Path(base))


def check_a_tie(case: Case, file: Path, tensors: dict[str, Tensor], tie: Any, out: Path) -> None:
    """Every tensor of the file arrives, and both names of the tied table hold the copy that the policy names."""
    found = import_teacher(case.folder, out, ReadOptions(tie=tie, heads=heads(case)))
    assert found.file == file
    teacher = load_teacher(out)
    state = official_state(teacher.denoiser)
    assert_equal(state, tensors | dict.fromkeys(TABLES.values(), tensors[TABLES[tie]]))
    loser = TABLES["ema" if tie == "lm_head" else "lm_head"]
    assert {key.name: key.status for key in found.keys} == {
        name: "ignored" if name in (loser, POSITIONS) else "used" for name in tensors
    }
    assert sum(p.numel() for p in teacher.denoiser.parameters()) == case.meta["parameter_count"]
    difference = (tensors[TABLES["lm_head"]] - tensors[TABLES["ema"]]).abs()
    told = case.meta["tied_difference"]
    assert abs(float(difference.max()) - told["max_abs"]) < 1e-6
    assert abs(float(difference.double().mean()) - told["mean_abs"]) < 1e-6
    assert len(found.warnings) == (told["max_abs"] > 1e-6)
    check_settings(case, teacher)
    _, rate, step = file.stem.split("_")
    assert (teacher.recipe.fit.ema, teacher.recipe.fit.steps) == (float(rate), int(step))


def check_settings(case: Case, teacher: Any) -> None:
    """The sizes that the case tells, what the trainer wrote down, and the vocabulary."""
    arch, fit, arguments = teacher.architecture, teacher.recipe.fit, case.json("training_args")
    ours = {
        "vocab_size": arch.vocab_size,
        "hidden_dim": arch.space.dim,
        "hidden_t_dim": arch.backbone.time_dim,
        "hidden_size": arch.backbone.hidden,
        "num_hidden_layers": arch.backbone.layers,
        "num_attention_heads": arch.backbone.heads,
        "intermediate_size": arch.backbone.ff,
        "max_position_embeddings": arch.backbone.max_positions,
        "seq_len": arch.seq_len,
        "noise_schedule": arch.process.schedule.registered_name,
    }
    assert ours.items() <= case.config.items()
    fitted = {
        "diffusion_steps": arch.process.schedule.steps,
        "dropout": arch.backbone.dropout,
        "batch_size": fit.batch_size,
        "microbatch": fit.microbatch,
        "lr": fit.optimizer.lr,
        "weight_decay": fit.optimizer.weight_decay,
    }
    assert fitted.items() <= arguments.items()
    assert teacher.tokenizer.vocabulary() == case.json("vocab")


def check_the_way_out_and_back(case: Case, file: Path, base: Path) -> None:
    """Out: file name, names in order, arguments and vocabulary are the same. Back: so are the weights, bit for bit."""
    first = load_teacher(base / "lm_head")
    run = export_teacher(base / "lm_head", base / "run")
    written, _ = read_tensors(run / file.name)
    assert list(written) == case.meta["state_dict_keys_in_order"]
    assert_equal(written, official_state(first.denoiser))
    again = Case(run)
    assert again.json("vocab") == case.json("vocab")
    changed = {"vocab", "config_name", "ema_rate", "learning_steps"}  # which follow from the files
    arguments = case.json("training_args")
    if TIME_SAMPLERS.get(arguments["schedule_sampler"]) not in time_samplers.names():
        changed.add("schedule_sampler")
    assert {k: v for k, v in again.json("training_args").items() if k not in changed}.items() <= arguments.items()
    import_teacher(run, base / "again")
    second = load_teacher(base / "again")
    assert_equal(official_state(second.denoiser), official_state(first.denoiser))
    assert second.architecture == first.architecture
    assert second.recipe.fit == first.recipe.fit
    check_without_the_configuration(case, base / "bare")


def check_without_the_configuration(case: Case, bare: Path) -> None:
    """The original's folder lacks the transformer's configuration: the number of heads has then to be given."""
    shutil.copytree(case.folder, bare)
    (bare / "bert_config.json").unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        given = load_teacher(bare, heads=case.config["num_attention_heads"])
        assert given.architecture == load_teacher(case.folder, heads=heads(case)).architecture


def heads(case: Case) -> int | None:
    """None where a configuration beside the weights tells the number."""
    return None if (case.folder / "bert_config.json").exists() else case.config["num_attention_heads"]


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
