"""Reading a table of alpha_bar."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from dlkit.errors import UserError
from dlkit.files import read_json


def read_table(file: Any) -> list[list[float]]:
    """The rows in a JSON, safetensors or npy file; nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds no table of numbers.
    """
    if not isinstance(file, str | Path):
        raise UserError(f"file: give the name of the file that holds the table, not {file!r}")
    path = Path(file)
    if path.suffix not in READERS:
        raise UserError(f"{path}: a table is read from {', '.join(READERS)} files")
    if not path.is_file():
        raise UserError(f"{path} is missing; give the file that holds the table of the schedule")
    table = READERS[path.suffix](path)
    if not (isinstance(table, list) and table and all(isinstance(row, list) for row in table)):
        raise UserError(f"{path} holds no table: a list of rows, one for each step, with a number for each position")
    return table


def _safetensors(path: Path) -> Any:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}; restore it from a copy") from None
    if len(tensors) != 1:
        raise UserError(f"{path} holds {len(tensors)} tensors; the table must be the only one")
    return next(iter(tensors.values())).double().tolist()


def _npy(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # an archive of arrays would keep a file of its own open
            table = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}; restore it from a copy") from None
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu":
        raise UserError(f"{path} holds no array of real numbers; save one with numpy.save")
    return table.astype(np.float64).tolist()


READERS = {".json": read_json, ".safetensors": _safetensors, ".npy": _npy}
