"""Checkpoints: there or not, whole or told."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

import tiny
from dlkit.errors import UserError
from dlkit.training import checkpoint
from dlkit.training.checkpoint import State


def state(value: float = 1.0, **values: Any) -> State:
    made = State(values=values)
    made.put("a", {"w": torch.full((2,), value)})
    made.put("ab", {"w": torch.zeros(3), "x/y": torch.ones(1)})
    return made


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 7, state(best={"score": 0.1}))
    path = checkpoint.latest(tmp_path)
    assert path == tmp_path / "step-00000007"
    loaded = checkpoint.load(path)
    assert loaded.values == {"step": 7, "best": {"score": 0.1}}
    assert tiny.same(loaded.part("a"), {"w": torch.ones(2)})
    assert tiny.same(loaded.part("ab"), {"w": torch.zeros(3), "x/y": torch.ones(1)})


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".step-00000001.0a.tmp").mkdir(parents=True)
    for step in (3, 6):
        checkpoint.save(tmp_path, step, state())
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_half_written_folders_are_not_taken_for_checkpoints(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "nothing") is None
    assert checkpoint.latest(tmp_path) is None
    for name in (".step-00000009.0a.tmp", ".step-00000009.0a.old", "step-9", "step-00000009.bak"):
        (tmp_path / name).mkdir()
    assert checkpoint.latest(tmp_path) is None
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000010").mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "step-00000010"


def trained(seed: int, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for step in range(steps):
        update(module, optimizer, step)
    return module, optimizer


def update(module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    module(torch.full((1, 3), float(step))).square().sum().backward()
    optimizer.step()


def test_module_and_optimizer_go_on_bit_for_bit(tmp_path: Path) -> None:
    module, optimizer = trained(0, 3)
    saved = State()
    saved.put("module", checkpoint.module_state(module))
    saved.put("optimizer", checkpoint.optimizer_state(optimizer))
    checkpoint.save(tmp_path, 3, saved)
    other, other_optimizer = trained(1, 1)
    loaded = checkpoint.load(tmp_path / "step-00000003")
    checkpoint.load_module(other, loaded.part("module"))
    checkpoint.load_optimizer(other_optimizer, loaded.part("optimizer"))
    for step in (3, 4):
        update(module, optimizer, step)
        update(other, other_optimizer, step)
    assert tiny.same(checkpoint.module_state(module), checkpoint.module_state(other))


@pytest.mark.parametrize("size", [0, 5, 60, -8])
def test_a_cut_file_is_told(size: int, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state())
    file = tmp_path / "step-00000001" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match=r"the checkpoint .* is damaged") as caught:
        checkpoint.load(file.parent)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_its_numbers_is_told(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state())
    (tmp_path / "step-00000001" / "state.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(tmp_path / "step-00000001")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("Error while serializing:\n No space left")],
    ids=["system", "safetensors"],
)
def test_a_full_disk_is_told_and_the_older_checkpoint_stays(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, state(value=5.0))

    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*step-00000002: .*No space left.*; free some space") as caught:
        checkpoint.save(tmp_path, 2, state())
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert float(checkpoint.load(tmp_path / "step-00000001").part("a")["w"][0]) == 5.0


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*: Not a directory"):
        checkpoint.save(tmp_path / "file", 1, state())


def test_a_checkpoint_of_something_else_is_told(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, State(values={"stage": 0}))
    with pytest.raises(UserError, match=r"state\.json lacks step, best"):
        checkpoint.load(tmp_path / "step-00000001", ("step", "best"))
    with pytest.raises(UserError, match=r"damaged: no weight of shape \(2, 2\)"):
        checkpoint.load_module(torch.nn.Linear(2, 2), {"other": torch.zeros(1)})
