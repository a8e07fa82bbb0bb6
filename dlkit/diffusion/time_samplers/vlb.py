"""The times of a likelihood bound."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dlkit.diffusion.time_samplers import register
from dlkit.diffusion.time_samplers._base import TimeSampler, TimeState
from dlkit.errors import UserError
from dlkit.schedules._base import Schedule

Times = Float[Tensor, " b"]


@register(
    "vlb",
    description="some rows at t_min, the others spread evenly over all times; how many follows from both losses",
    paper="Gulrajani & Hashimoto 2023, Plaid (arXiv 2305.18619); even times: Kingma et al. 2021 (2107.00630), I.1",
)
class VlbTimes(TimeSampler):
    """n of B rows have t = t_min and the weight B / n, the others (j + u) / (B - n) of the way and B / (B - n).

    The mean of the weighted losses over the batch is that of the one term plus that of the other, each over its own
    rows. n / B follows s_0 / (s_0 + s_1), the standard deviations of a row's loss at t_min and elsewhere, by which the
    variance of the sum is least; it is at least one row and at most all but one, and 1/8 until losses are seen.

    Attributes:
        decay: of the averages that the deviations are found by.
    """

    weighted = True

    decay: float = Field(default=0.997, ge=0.0, lt=1.0)

    def sample(self, u: Times, schedule: Schedule) -> Times:
        """Times above t_min, uniform."""
        return schedule.between(u, schedule.t_min, 1.0)

    def start(self, schedule: Schedule) -> "TwoLosses":
        return TwoLosses(self, schedule)


class TwoLosses(TimeState):
    """The averages of both losses, on the CPU in float64, whatever the device of the run.

    Attributes:
        moments: averages of 1, the loss and its square: a row for the loss at t_min and one for that elsewhere.
    """

    sampler: VlbTimes
    moments: Float[Tensor, "2 3"]

    def __init__(self, sampler: VlbTimes, schedule: Schedule) -> None:
        super().__init__(sampler, schedule)
        self.moments = torch.zeros(2, 3, dtype=torch.float64)

    def share(self) -> Float[Tensor, ""]:
        """n / B, before it is made whole."""
        seen, mean, square = self.moments.unbind(1)
        weight = seen.clamp_min(1e-300)
        deviation = (square / weight - (mean / weight).square()).clamp_min(0.0).sqrt()
        known = (seen > 0).all() & (deviation.sum() > 0)
        return torch.where(known, deviation[0] / deviation.sum().clamp_min(1e-300), 0.125)

    def draw(self, u: Times) -> tuple[Times, Times]:
        """Raises ``UserError`` for a single row, which cannot have both kinds of times."""
        size = len(u)
        if size < 2:
            raise UserError("time_sampler 'vlb' needs both kinds of times in a batch; set fit.batch_size to 2 or more")
        n = (size * self.share()).round().clamp(1, size - 1).to(u.device)
        number = torch.arange(size, dtype=torch.float64, device=u.device)
        rest = number < n
        spread = (number - n + u[-1]) / (size - n)
        t = self.schedule.between(torch.where(rest, 0.0, spread), self.schedule.t_min, 1.0)
        t = torch.where(rest, self.schedule.t_min, t)
        return t, torch.where(rest, size / n, size / (size - n))

    def observe(self, t: Times, loss: Float[Tensor, " b"]) -> None:
        t, loss = t.detach().cpu(), loss.detach().cpu().double()
        rest = t <= self.schedule.t_min
        for which, rows in enumerate((rest, ~rest)):
            if rows.any():
                values = torch.stack((torch.ones_like(loss), loss, loss.square()))[:, rows].mean(1)
                self.moments[which] = torch.lerp(values, self.moments[which], self.sampler.decay)

    def tensors(self) -> dict[str, Tensor]:
        return {"moments": self.moments}

    def load(self, tensors: dict[str, Tensor]) -> None:
        if "moments" not in tensors or tensors["moments"].shape != self.moments.shape:
            raise UserError("the checkpoint is damaged: no moments of the losses of the times in it")
        self.moments.copy_(tensors["moments"])
