"""Pretrained language models that metrics use: reading them, and telling which one it was."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dlkit.data.hub import from_hub
from dlkit.errors import UserError

FORMS = "give a folder with config.json, weights and tokenizer, or a name on the model hub"
_T = TypeVar("_T")


def identity(model: nn.Module, name: str) -> dict[str, Any]:
    """What tells a model from others: its name, of a folder the last part, a hash of its weights, and the library."""
    import transformers

    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    folder = Path(name).expanduser()
    shown = folder.resolve().name if folder.is_dir() else name
    return {"model": shown, "sha256": digest.hexdigest(), "transformers": transformers.__version__}


def read(name: str, load: Callable[..., _T]) -> _T:
    """What ``load(place, local_files_only=...)`` reads: of a folder, of the local cache, or else of the hub.

    Raises:
        UserError: one line, whatever the library says of a model that it cannot read. A path with no folder there is
            not looked for on the hub.
    """
    folder = Path(name).expanduser()
    is_folder = folder.is_dir()
    if not is_folder and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise UserError(f"cannot read the model {name}: there is no such folder; {FORMS}")
    try:
        with quiet():
            return load(str(folder), local_files_only=True) if is_folder else from_hub(name, load)
    except Exception as error:  # it raises errors of many kinds, from the hub's to safetensors' own
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise UserError(f"cannot read the model {name} ({type(error).__name__}: {reason[:200]}); {FORMS}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No report of the layers that are left out, and no progress bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
