"""The parts keep dlkit's contract, the loss is its formula, and checkpoints come back as they went."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from dlkit_anchor import checkpoint
from dlkit_anchor.anchor import Anchor
from torch import Tensor

import dlkit
from dlkit.data.grammar import write_corpus
from dlkit.generator.architecture import Architecture
from dlkit.teachers._base import ReadOptions
from dlkit.testing import checks

PARTS = (("teachers", "anchor"), ("backbones", "gated_conv"))
RECIPE = Path(__file__).parents[1] / "recipe.yaml"
SOURCES = ["where are books sold in paris ?"]


@pytest.mark.parametrize("check", [check for kind, name in PARTS for check in checks(kind, name)], ids=repr)
def test_contract(check: Callable[[], None]) -> None:
    check()


def test_the_loss_counts_generated_positions() -> None:
    """A perfect prediction but for one of two generated positions, which is off by 2 in every coordinate."""
    ids, mask = torch.tensor([[0, 1, 2]]), torch.tensor([[False, True, True]])
    table, off = 100.0 * torch.eye(3, 4), torch.zeros(1, 3, 4)
    off[0, 0], off[0, 1] = 7.0, 2.0
    denoiser = SimpleNamespace(
        space=SimpleNamespace(embed=lambda ids: table[ids], logits=lambda x: x @ table.T),
        process=SimpleNamespace(q_sample=lambda x0, t, eps, cond: x0),
        predict=lambda x, t, cond: SimpleNamespace(x0=x + off),
    )
    batch = SimpleNamespace(ids=ids, mask=mask, t=torch.ones(1), normal=lambda name: torch.zeros(1, 3, 4))
    terms = Anchor().losses(denoiser, batch)  # type: ignore[arg-type]
    assert terms["mse"].item() == pytest.approx(4.0 / 2)
    assert terms["anchor"].item() == pytest.approx(0.0, abs=1e-6)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dlkit.Teacher:
    folder = tmp_path_factory.mktemp("anchor")
    write_corpus(folder / "data", n_train=40, n_valid=4, n_test=4)
    recipe = dlkit.Recipe.from_yaml(RECIPE).with_settings(["fit.steps=2", "model.family.anchor_weight=0.5"])
    return dlkit.load_teacher(dlkit.fit(recipe, folder / "data", folder / "run").teacher)


def weights(model: dlkit.Teacher) -> dict[str, Tensor]:
    return model.denoiser.state_dict()


def test_checkpoints_come_back(teacher: dlkit.Teacher, tmp_path: Path) -> None:
    """All of it: weights, settings of every part, what is known of the fit, and therefore the texts."""
    parts = {"decoder": "nearest", "sampler": {"name": "ddim", "steps": 3}, "overlong": "refuse"}
    settings = Architecture.model_validate({**teacher.architecture.model_dump(), **parts})
    teacher = dlkit.Teacher(teacher.denoiser, teacher.tokenizer, settings, teacher.recipe)
    teacher.save_pretrained(tmp_path / "teacher")
    dlkit.export_teacher(tmp_path / "teacher", tmp_path / "checkpoint")
    again = dlkit.load_teacher(tmp_path / "checkpoint")
    assert weights(again).keys() == weights(teacher).keys()
    assert all(torch.equal(weights(again)[name], tensor) for name, tensor in weights(teacher).items())
    assert again.architecture == teacher.architecture
    assert again.architecture.family == Anchor(anchor_weight=0.5)
    assert again.recipe.fit == teacher.recipe.fit
    assert again.generate(SOURCES, steps=2) == teacher.generate(SOURCES, steps=2)


@pytest.fixture
def folder(teacher: dlkit.Teacher, tmp_path: Path) -> Path:
    """A checkpoint."""
    (tmp_path / "checkpoint").mkdir()
    checkpoint.write(tmp_path / "checkpoint", teacher.parts())
    return tmp_path / "checkpoint"


def refused(folder: Path, words: str, **options: Any) -> None:
    with pytest.raises(dlkit.UserError, match=words) as error:
        Anchor().read(folder, ReadOptions(**options))
    assert "\n" not in str(error.value)


def test_damaged_weights_are_refused_in_one_line(folder: Path) -> None:
    file = folder / checkpoint.WEIGHTS
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        refused(folder, r"weights\.npz is (damaged|missing)")
        file.write_bytes(whole)


def test_weights_and_settings_must_belong_together(teacher: dlkit.Teacher, folder: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in weights(teacher).items() if name != checkpoint.TIED}
    np.savez(folder / checkpoint.WEIGHTS, **state, more=np.ones(2))
    refused(folder, "has the unknown more; --allow-unused leaves them out")
    keys = {key.name: key.status for key in Anchor().read(folder, ReadOptions(allow_unused=True)).keys}
    assert keys.pop("more") == "unused"
    assert set(keys.values()) == {"used"}
    state.pop("backbone.up.bias")
    np.savez(folder / checkpoint.WEIGHTS, **state)
    refused(folder, "lacks backbone.up.bias; copy it again")
    np.savez(folder / checkpoint.WEIGHTS, **state, **{"backbone.up.bias": np.ones(7, dtype=np.float32)})
    with pytest.raises(dlkit.UserError, match=r"its tensors do not fit its settings: .*backbone\.up\.bias"):
        dlkit.load_teacher(folder)


def test_what_the_format_does_not_have_is_refused(folder: Path) -> None:
    for options in ({"step": 3}, {"heads": 2}, {"tie": "ema"}):
        with pytest.raises(dlkit.UserError, match=f"leave no choice to --{next(iter(options))}; leave it out"):
            dlkit.load_teacher(folder, **options)
    (folder / checkpoint.SETTINGS).write_text("{}")
    refused(folder, r"settings\.json: family: Field required")
