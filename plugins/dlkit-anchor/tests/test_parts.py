"""The parts keep dlkit's contract, the loss is its formula, and checkpoints come back as they went."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dlkit_anchor import checkpoint
from dlkit_anchor.anchor import Anchor
from torch import Tensor

import dlkit
from dlkit.data.grammar import write_corpus
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
    batch = SimpleNamespace(ids=ids, mask=mask, t=torch.ones(1), eps_t=torch.zeros(1, 3, 4))
    terms = Anchor().losses(denoiser, batch)  # type: ignore[arg-type]
    assert terms["mse"].item() == pytest.approx(4.0 / 2)
    assert terms["anchor"].item() == pytest.approx(0.0, abs=1e-6)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dlkit.Teacher:
    folder = tmp_path_factory.mktemp("anchor")
    write_corpus(folder / "data", n_train=40, n_valid=4, n_test=4)
    recipe = dlkit.Recipe.from_yaml(RECIPE).with_settings(["fit.steps=2"])
    return dlkit.load_teacher(dlkit.fit(recipe, folder / "data", folder / "run").teacher)


def weights(model: dlkit.Teacher) -> dict[str, Tensor]:
    return model.denoiser.state_dict()


def test_checkpoints_come_back(teacher: dlkit.Teacher, tmp_path: Path) -> None:
    checkpoint.write(teacher, tmp_path / "checkpoint")
    again = checkpoint.read(tmp_path / "checkpoint")
    assert all(torch.equal(weights(again)[name], tensor) for name, tensor in weights(teacher).items())
    assert again.generate(SOURCES, steps=2) == teacher.generate(SOURCES, steps=2)


def test_a_checkpoint_becomes_a_model_folder(teacher: dlkit.Teacher, tmp_path: Path) -> None:
    checkpoint.write(teacher, tmp_path / "checkpoint")
    command = [sys.executable, "-m", "dlkit_anchor.checkpoint", str(tmp_path / "checkpoint"), str(tmp_path / "teacher")]
    assert subprocess.run(command, check=True).returncode == 0
    assert dlkit.load_teacher(tmp_path / "teacher").generate(SOURCES, steps=2) == teacher.generate(SOURCES, steps=2)


def test_damaged_checkpoints_are_refused_in_one_line(teacher: dlkit.Teacher, tmp_path: Path) -> None:
    checkpoint.write(teacher, tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / checkpoint.WEIGHTS
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(dlkit.UserError, match=r"weights\.npz is (damaged|missing)") as error:
            checkpoint.read(tmp_path / "checkpoint")
        assert "\n" not in str(error.value)
        file.write_bytes(whole)
