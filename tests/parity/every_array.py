"""A check may not pass over an array that its case records."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from parity.cases import Case


class Watched(dict[str, Tensor]):
    """Tensors by name that know which of them were asked for."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__(tensors)
        self.unread = set(tensors)

    def __getitem__(self, name: str) -> Tensor:
        self.unread.discard(name)
        return super().__getitem__(name)


@contextmanager
def every_array(case: Case, *files: str) -> Iterator[Watched]:
    """The tensors of a case's files, ``data`` if none is named; afterwards each must have been read."""
    tensors = {name: tensor for file in files or ("data",) for name, tensor in case.arrays(file).items()}
    golden = Watched(tensors)
    yield golden
    assert not golden.unread, f"{case.name}: these arrays were not compared: {', '.join(sorted(golden.unread))}"
