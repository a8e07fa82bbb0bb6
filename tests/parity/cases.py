"""Cases recorded from the original codebases: folders with a ``meta.json`` and the tensors that it describes.

``tests/parity/SYSTEM/KIND.py`` knows how to repeat the cases of one kind: its ``check(case)`` does so with dlkit and
asserts. A case is of the kind whose name its own name begins with (``ddim_legacy_T20_gap5`` is a ``ddim_legacy``), and
everything else, sizes and step counts first, is read from the case.
"""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One recorded case.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What the case says of itself."""
        return json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))

    @property
    def config(self) -> dict[str, Any]:
        return self.meta["config"]

    @property
    def name(self) -> str:
        return f"{self.meta['system']}/{self.meta['case']}"

    def arrays(self, file: str = "data") -> dict[str, Tensor]:
        """The tensors of ``file.safetensors``."""
        return load_file(self.folder / f"{file}.safetensors")

    def json(self, file: str) -> Any:
        """The content of ``file.json``."""
        return json.loads((self.folder / f"{file}.json").read_text(encoding="utf-8"))

    def beside(self, path: str) -> "Case":
        """The case at a path relative to this one, such as ``../checkpoint``."""
        return Case((self.folder / path).resolve())

    def close(
        self, ours: Tensor, theirs: Tensor, what: str = "", prefix: str = "", *, of_largest: bool = False
    ) -> None:
        """Assert that two tensors agree within the case's tolerance.

        Args:
            ours, theirs: what is found and what is recorded.
            what: names them in the message.
            prefix: of the tolerance's names.
            of_largest: ``rtol`` is of the largest entry, as sums of many terms are exact to: gradients.
        """
        limits = self.meta["tolerance"]
        rtol, atol = (limits.get(f"{prefix}{name}", 0.0) for name in ("rtol", "atol"))
        if of_largest:
            rtol, atol = 0.0, atol + rtol * float(theirs.abs().max())
        assert_close(ours, theirs, rtol=rtol, atol=atol, msg=lambda text: f"{self.name} {what}: {text}")


def cases(root: Path) -> list[Case]:
    """All cases below a folder, in order of their names."""
    return sorted((Case(file.parent) for file in root.rglob("meta.json")), key=lambda case: case.name)


def checker(case: Case) -> Callable[[Case], None]:
    """The function that repeats a case. Raises ``LookupError`` for a kind that is not known."""
    system, name = case.meta["system"], case.meta["case"]
    kinds = [path.stem for path in (HERE / system).glob("*.py") if not path.stem.startswith("_")]
    fitting = [kind for kind in kinds if name == kind or name.startswith(f"{kind}_")]
    if not fitting:
        raise LookupError(f"{case.folder}: no check for {case.name!r}; {system} has checks for {sorted(kinds)}")
    file = HERE / system / f"{max(fitting, key=len)}.py"
    spec = importlib.util.spec_from_file_location(f"parity_{system}_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.check
