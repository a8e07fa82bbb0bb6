"""Reading a PyTorch file that somebody else wrote: tensors by name, and nothing else."""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.errors import UserError

WRAPPERS = ("model", "state_dict")


def read_tensors(file: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file that ``torch.save`` wrote, on the CPU; nothing in the file is executed.

    Returns:
        tensors by name. Where they lie below a key ``model`` or ``state_dict``, also the names that stand beside it.

    Raises:
        UserError: the file is missing, damaged, holds anything but tensors by name, or views that are larger than what
            is stored.
    """
    content, beside = _load(file), []
    wrapper = next((key for key in WRAPPERS if isinstance(content, Mapping) and _is_group(content.get(key))), None)
    if wrapper is not None:
        beside = [str(key) for key in content if key != wrapper]
        content = content[wrapper]
    if not _is_group(content):
        raise UserError(f"{file} holds a {type(content).__name__}, not tensors by name; give a checkpoint of weights")
    for name, value in content.items():
        _refuse_all_but_plain(name, value, file)
    return {name: tensor.detach() for name, tensor in content.items()}, beside


def plain_weights(tensor: Tensor, name: str, file: Path) -> Tensor:
    """In fp32. Raises ``UserError`` if they are no weights of a run that went well."""
    if not tensor.is_floating_point():
        raise UserError(f"{file}: {name} holds {tensor.dtype}, not floating-point weights; give a file of weights")
    weights = tensor.float()
    if not torch.isfinite(weights).all():
        raise UserError(f"{file}: {name} holds values that are not finite; the run diverged, take an earlier step")
    return weights.contiguous()


def _is_group(content: Any) -> bool:
    return isinstance(content, Mapping) and len(content) > 0


def _load(file: Path) -> Any:
    try:
        with warnings.catch_warnings():  # torch warns of its own older formats
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; give a run folder or a checkpoint that exists") from None
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise UserError(_unreadable(file)) from None
        raise UserError(
            f"{file} asks for {refused[1]}, which is no tensor; it was not executed, and the file is not read"
        ) from None
    except Exception:  # a damaged file makes the reader fail in a dozen ways
        raise UserError(_unreadable(file)) from None


def _unreadable(file: Path) -> str:
    return f"{file} is damaged, cut short or no file of weights; copy it again from its source"


def _refuse_all_but_plain(name: Any, value: Any, file: Path) -> None:
    if not isinstance(name, str):
        raise UserError(f"{file} holds tensors by {type(name).__name__}, not by name; give a file of weights")
    if not isinstance(value, Tensor):
        raise UserError(f"{file}: {name[:80]!r} is a {type(value).__name__}, not a tensor; give a file of weights")
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise UserError(f"{file}: {name} is not an ordinary dense tensor; save it as one")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise UserError(f"{file}: {name} says it is larger than what is stored of it; copy the file from its source")
