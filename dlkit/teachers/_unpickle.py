"""Reading a PyTorch file that pickles more than tensors, without running anything of it.

A checkpoint of a training program may hold objects of any library beside its weights. Pickle would import and call
whatever the file names. Here tensors and plain containers are rebuilt; every other name becomes a placeholder, which
keeps what it is given and does nothing. No module is imported for the file, and nothing that it names is called.
"""

import io
import math
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.errors import UserError

DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
        file: where.
        entry: of the archive.
        dtype, stride, offset: how the entry is laid out, in numbers.
        shape: of the tensor.
    """

    file: Path
    entry: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def read(self) -> Tensor:
        """The tensor, on the CPU. Raises ``UserError`` if the file does not hold as much as it says."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        try:
            with zipfile.ZipFile(self.file) as archive:
                stored = bytearray(_entry(archive, self.entry))
        except (KeyError, ValueError, OSError, zipfile.BadZipFile, RuntimeError):
            raise UserError(damaged(self.file)) from None
        numbers = len(stored) // self.dtype.itemsize
        if math.prod(self.shape) > numbers or self.reach > numbers:
            raise UserError(f"{self.file}: a tensor says it is larger than what is stored of it; copy the file again")
        whole = torch.frombuffer(stored, dtype=self.dtype)
        return whole.as_strided(self.shape, self.stride, self.offset).clone()

    @property
    def reach(self) -> int:
        """How many numbers the entry must hold."""
        return self.offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    def __setstate__(self, state: Any) -> None:
        """A file may not change what it has made."""
        raise pickle.UnpicklingError("a tensor has no state")


class Placeholder:
    """An object of a class that was not looked up.

    Attributes:
        origin: module and name, as the file has them.
        args: what it would have been made of.
        state: what would have been put into it.
    """

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Placeholder":
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any

    def __call__(self, *args: Any, **kwargs: Any) -> "Placeholder":
        """What it would have made, as little looked up."""
        return type(self)(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """What a subclass of dict would have held is not kept."""

    def append(self, value: Any) -> None:
        """Nor what one of list would have."""

    def extend(self, values: Any) -> None:
        """See :meth:`append`."""


def load_inert(file: Path) -> Any:
    """What ``torch.save`` wrote: plain values and containers, :class:`StoredTensor` and :class:`Placeholder`.

    Raises:
        UserError: the file is missing, damaged, or of a format from before PyTorch 1.6.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing; give a checkpoint that exists")
    try:
        with zipfile.ZipFile(file) as archive:
            (table,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            folder = table.removesuffix("data.pkl")
            order = _entry(archive, f"{folder}byteorder") if f"{folder}byteorder" in archive.namelist() else b"little"
            content = _entry(archive, table)
        if order.decode() != sys.byteorder:
            raise UserError(f"{file} was written on a machine whose numbers are stored the other way round")
        return _Inert(file, folder, content).load()
    except UserError:
        raise
    except Exception:  # a damaged file makes the reader fail in a dozen ways
        raise UserError(damaged(file)) from None


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Torch compresses nothing, so what is compressed is a trap: it may unpack to any size."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def damaged(file: Path) -> str:
    return f"{file} is damaged, cut short or no file that torch.save wrote; copy it again from its source"


class _Inert(pickle.Unpickler):
    """Looks up nothing but the few names in ``_known``."""

    def __init__(self, file: Path, folder: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self.file, self.folder = file, folder
        self._known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("collections", "defaultdict"): lambda *_: {},
            ("torch._utils", "_rebuild_tensor_v2"): lambda *args: _tensor(*args),  # the file may change this one alone
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }

    def find_class(self, module: str, name: str) -> Any:
        known = self._known.get((module, name))
        if known is not None:
            return known
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        return type("Placeholder", (Placeholder,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> StoredTensor:
        """A storage, as a tensor of one dimension."""
        kind, dtype, key, _, length = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise UserError(f"{self.file} holds tensors of a kind that is not known")
        return StoredTensor(self.file, f"{self.folder}data/{key}", dtype, (length,), (1,), 0)


def _tensor(
    storage: StoredTensor, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> StoredTensor:
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor's sizes are no numbers")
    return StoredTensor(storage.file, storage.entry, storage.dtype, tuple(shape), tuple(stride), offset)


def plain(value: Any) -> Any:
    """The plain values in something, by the names of their settings; what is not plain is None.

    Configuration objects of OmegaConf keep a container in ``_content`` and a value in ``_val``.
    """
    if isinstance(value, Placeholder):
        state = value.state if isinstance(value.state, Mapping) else {}
        return plain(state.get("_content", state.get("_val")))
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items() if isinstance(key, str)}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str) else None
