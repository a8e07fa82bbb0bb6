"""The family's own checkpoints: a folder with weights.npz, settings.json and the tokenizer.

``python -m dlkit_anchor.checkpoint CHECKPOINT OUT`` makes one into a model folder of dlkit.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlkit.data.tokenizer import Tokenizer
from dlkit.errors import UserError
from dlkit.files import atomic_folder, read_json, write_json
from dlkit.generator import Architecture, Teacher
from dlkit.part import validated
from dlkit.recipe import Recipe

WEIGHTS, SETTINGS, TIED = "weights.npz", "settings.json", "space.lm_head.weight"


def write(teacher: Teacher, folder: str | Path) -> None:
    """Write a teacher in the family's format. Raises ``UserError`` where it cannot be written."""
    state = {name: tensor for name, tensor in teacher.denoiser.state_dict().items() if name != TIED}
    with atomic_folder(folder) as temporary:
        np.savez(temporary / WEIGHTS, **{name: tensor.cpu().numpy() for name, tensor in state.items()})
        write_json(temporary / SETTINGS, {"family": "anchor", **teacher.architecture.model_dump(mode="json")})
        teacher.tokenizer.save(temporary)


def read(folder: str | Path) -> Teacher:
    """A teacher from the family's format.

    Raises:
        UserError: a file is missing or damaged, or weights and settings do not belong together.
    """
    folder = Path(folder)
    architecture = validated(Architecture, read_json(folder / SETTINGS), str(folder / SETTINGS))
    denoiser = architecture.build()
    state = read_weights(folder / WEIGHTS)
    state[TIED] = state.get("space.word_embedding.weight", torch.empty(0))
    try:
        denoiser.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / WEIGHTS} does not belong to {SETTINGS}: {reason}") from None
    kept = ("family", "space", "process", "backbone", "prediction")
    model = {key: architecture.model_dump(mode="json")[key] for key in kept}
    recipe = Recipe.from_dict({"model": {**model, "seq_len": architecture.seq_len, "tokenizer": str(folder)}})
    return Teacher(denoiser, Tokenizer.load(folder), architecture, recipe)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The arrays of a file; pickled objects in it are refused, not loaded."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except FileNotFoundError:
        raise UserError(f"{file} is missing; is {file.parent} a checkpoint of the anchor family?") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is damaged ({error}); copy it again from its source") from None


def main() -> None:
    """``CHECKPOINT OUT``: a model folder of dlkit out of a checkpoint."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m dlkit_anchor.checkpoint CHECKPOINT OUT")
    try:
        read(sys.argv[1]).save_pretrained(sys.argv[2])
    except UserError as error:
        print(f"dlkit_anchor: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
