"""A frozen network with a learned correction beside it."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from dlkit import backbones
from dlkit.backbones import register
from dlkit.backbones._base import Backbone
from dlkit.part import part_of


class ResidualBackbone(nn.Module):
    """[f(x, s) | g(x, s, t)] with a frozen f of one time and a g of two.

    Attributes:
        frozen, correction: f and g.
        two_times, residual: True.
        own_logits: as f's.
        feature_dim: of f, whose features they are.
    """

    two_times = True
    residual = True

    def __init__(self, frozen: nn.Module, correction: nn.Module) -> None:
        super().__init__()
        self.frozen, self.correction = frozen.requires_grad_(False), correction
        self.own_logits = getattr(frozen, "own_logits", False)
        self.feature_dim: int = frozen.feature_dim  # type: ignore[assignment]

    @property
    def learnable_loss_weighting(self) -> nn.Module | None:
        """w(s) of g, if it has one."""
        return getattr(self.correction, "learnable_loss_weighting", None)

    def forward(
        self,
        x: Float[Tensor, "b l d"],
        time: Float[Tensor, " b"],
        taps: tuple[int, ...] | None = None,
        *,
        end: Float[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b l nd"], Float[Tensor, "b l h"] | None]:
        """Both outputs side by side, and the features of f. ``end`` None is the first time again."""
        output, features = self.frozen(x, time, taps)
        return torch.cat((output, self.correction(x, time, None, end=end)[0]), -1), features


@register(
    "residual",
    description="a frozen network of one time and a correction of two: the student of `residual_psd`",
    paper="FLM (arXiv 2602.16813), first version",
)
class ResidualSpec(Backbone):
    """Settings of a :class:`ResidualBackbone`.

    Attributes:
        base: the frozen network; it must be able to take two times, as the correction does.
        loss_weighting: the correction learns how large losses are at each time.
    """

    trial: ClassVar[dict[str, Any]] = {
        "base": {"name": "flm", "layers": 1, "hidden": 16, "heads": 2, "cond": 8, "dropout": 0.0}
    }

    base: part_of(backbones.registry)  # type: ignore[valid-type]
    loss_weighting: bool = False

    @model_validator(mode="after")
    def _base_can_take_two_times(self) -> "ResidualSpec":
        if not {"two_times", "loss_weighting"} <= type(self.base).model_fields.keys():
            raise ValueError(f"base: backbone {self.base.registered_name!r} cannot take two times; choose flm")
        return self

    def build(self, dim: int, vocab_size: int) -> ResidualBackbone:
        """Both networks, for states of width ``dim``."""
        base: Any = self.base
        correction = base.replace(two_times=True, loss_weighting=self.loss_weighting)
        frozen = base.build(dim, vocab_size)
        return ResidualBackbone(frozen, correction.build(dim, dim))  # not logits, but a state
