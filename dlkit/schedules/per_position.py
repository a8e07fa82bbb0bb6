"""A schedule for each position of a text, from a table."""

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor

from dlkit.schedules import register
from dlkit.schedules._table import GridSchedule
from dlkit.schedules._table_file import read_table

Row = Annotated[
    tuple[float, ...],
    BeforeValidator(lambda row: row.split() if isinstance(row, str) else row),
    PlainSerializer(lambda row: " ".join(map(repr, row)), return_type=str),  # YAML takes ages over single numbers
]


@register(
    "per_position",
    description="alpha_bar of each step and position from a table, such as SeqDiffuSeq learns from its losses",
    paper="Yuan et al. 2022, SeqDiffuSeq (arXiv 2212.10325)",
)
class PerPositionSchedule(GridSchedule):
    """alpha_bar[i, n] of step i and position n on the grid t = (i + 1) / T; 1 at t = 0, and linear in t between.

    alpha, sigma and all that follows from them have one more axis than the times: [b] gives [b, l]. ``inverse`` takes
    [b, l] and gives the time of each position. At t = 1 alpha_bar is the table's last row. The network is fed the same
    time at all positions.

    Attributes:
        steps: T, the number of rows; it need not be given.
        table: T rows of l numbers, or of text with numbers in it, which is how they are written. Every column falls,
            between 1 and 0.
        file: read instead of ``table``: JSON with the rows, safetensors with one tensor [T, l], or SeqDiffuSeq's
            ``alpha_cumprod_step_N.npy``. What it holds becomes ``table``, so the file is not needed any more.
    """

    trial: ClassVar[dict[str, Any]] = {
        "table": [[0.98 - 0.04 * i - 0.0004 * n * (20 - i) for n in range(24)] for i in range(20)]
    }

    table: tuple[Row, ...] | None = Field(default=None)
    file: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _table_of_the_file(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        table, file = settings.get("table"), settings.get("file")
        if (table is None) == (file is None):
            raise ValueError("give either table, the rows of alpha_bar, or file, which holds them")
        if file is not None:
            table = read_table(file)
        steps = {"steps": len(table)} if isinstance(table, list | tuple) else {}
        return {**steps, **settings, "table": table, "file": None}

    @model_validator(mode="after")
    def _table_falls(self) -> "PerPositionSchedule":
        rows = self._rows
        if len(rows) != self.steps:
            raise ValueError(f"steps={self.steps} contradicts the table, which has {len(rows)} rows; leave steps out")
        if len(widths := {len(row) for row in rows}) != 1 or widths == {0}:
            raise ValueError(
                f"the rows of the table have {min(widths)} to {max(widths)} numbers; "
                "each must have one for each position"
            )
        values = torch.tensor([[1.0] * len(rows[0]), *rows], dtype=torch.float64)
        wrong = ~((values.diff(dim=0) < 0) & (values[1:] > 0))
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"row {row} of the table, position {column}, has {rows[row][column]} after {values[row, column]:g}; "
                "alpha_bar must fall from row to row and stay between 1 and 0"
            )
        _ = self._alpha_bars
        return self

    @property
    def _rows(self) -> tuple[tuple[float, ...], ...]:
        assert self.table is not None  # that of the file, if not given
        return self.table

    @property
    def positions(self) -> int:
        """l, the length of the texts."""
        return len(self._rows[0])

    def _on_grid(self) -> Float[Tensor, "l steps"]:
        return torch.tensor(self._rows, dtype=torch.float64).T
