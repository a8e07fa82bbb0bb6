"""Pretrained language models that metrics use: reading them, and telling which one it was."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlkit.errors import UserError


def identity(model: nn.Module, name: str) -> dict[str, Any]:
    """What tells a model from others: its name, of a folder the last part, a hash of its weights, and the library."""
    import transformers

    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    shown = Path(name).resolve().name if Path(name).is_dir() else name
    return {"model": shown, "sha256": digest.hexdigest(), "transformers": transformers.__version__}


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Whatever the library says of a model that it cannot read, in one line."""
    try:
        yield
    except Exception as error:  # it raises errors of many kinds, from the hub's to safetensors' own
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise UserError(
            f"cannot read the model {name} ({type(error).__name__}: {reason[:200]}); "
            "give a folder with config.json, weights and tokenizer, or a name on the model hub"
        ) from error


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
