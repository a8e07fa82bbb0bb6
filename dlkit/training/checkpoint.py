"""Checkpoints from which a run goes on bit for bit: safetensors and JSON, whole or not there."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dlkit.errors import UserError
from dlkit.files import atomic_folder, read_json
from dlkit.plugins import check_installed

_NAME = re.compile(r"step-(\d{8})")


@dataclass
class State:
    """What a checkpoint holds.

    Attributes:
        tensors: by "part/name".
        values: plain data: counters, the best score so far.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def put(self, part: str, tensors: dict[str, Tensor]) -> None:
        """Add the tensors of one part."""
        self.tensors |= {f"{part}/{name}": tensor for name, tensor in tensors.items()}

    def part(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part."""
        prefix = f"{part}/"
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


REMEDY = "delete it, and --resume starts from the beginning"


def module_state(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module, each once."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


@torch.no_grad()
def load_module(module: nn.Module, state: dict[str, Tensor]) -> None:
    """The inverse of :func:`module_state`. Raises ``UserError`` if a tensor is missing or has another shape."""
    for name, parameter in module.named_parameters():
        if name not in state or state[name].shape != parameter.shape:
            raise UserError(f"the checkpoint is damaged: no {name} of shape {tuple(parameter.shape)} in it; {REMEDY}")
        parameter.copy_(state[name])


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and counters by "number of parameter/name"."""
    state = optimizer.state_dict()["state"]
    return {f"{number}/{name}": tensor for number, entries in state.items() for name, tensor in entries.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """The inverse of :func:`optimizer_state`."""
    whole = optimizer.state_dict()
    whole["state"] = {}
    for key, tensor in state.items():
        number, _, name = key.partition("/")
        whole["state"].setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict(whole)


def save(folder: Path, step: int, state: State) -> None:
    """Write ``folder/step-NNNNNNNN``, then delete what is older. Raises ``UserError`` if it cannot be written."""
    target = folder / f"step-{step:08d}"
    with atomic_folder(target) as temporary:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, **state.values}), encoding="utf-8")
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    found = sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)) if folder.is_dir() else []
    return found[-1] if found else None


def load(path: Path, needed: tuple[str, ...] = ("step",)) -> State:
    """Read a checkpoint whose values have at least the ``needed`` keys.

    Raises:
        UserError: it is damaged, or was made with a plugin that is not installed.
    """
    values = read_json(path / "state.json")
    if not isinstance(values, dict) or not values.keys() >= set(needed):
        raise UserError(f"the checkpoint {path} is damaged (state.json lacks {', '.join(needed)}); {REMEDY}")
    check_installed(values.get("plugins"), f"the checkpoint {path}")
    try:
        return State(load_file(path / "state.safetensors"), values)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"the checkpoint {path} is damaged ({error}); {REMEDY}") from None
