"""Times in proportion to the size of their recent losses."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dlkit.diffusion.time_samplers import register
from dlkit.diffusion.time_samplers._base import IndexState, Probabilities, TimeSampler
from dlkit.errors import UserError
from dlkit.schedules._base import Schedule


@register(
    "loss_second_moment",
    description="times are drawn in proportion to the root mean square of their last losses, which are weighted for it",
    paper='Nichol & Dhariwal 2021 (arXiv 2102.09672), section 3.3; DiffuSeq\'s "lossaware"',
)
class LossSecondMoment(TimeSampler):
    """p_i = (1 - uniform) m_i / sum_j m_j + uniform / T, m_i the root mean square of the last losses of index i.

    Uniform until every one of the T indices has ``history`` losses. A loss has the weight 1 / (T p_i), which keeps the
    mean of uniform times and lowers the variance: without ``uniform``, p in proportion to m has the least there is.
    The losses of an update are taken in at its end, so that microbatches change nothing; the original does it after
    each microbatch.

    Attributes:
        history: losses that are kept of each index, the last ones.
        uniform: share of uniform times that is mixed in, so that no index is forgotten.
    """

    weighted = True

    history: int = Field(default=10, ge=1)
    uniform: float = Field(default=0.001, gt=0.0, le=1.0)

    def sample(self, u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
        """The times of a run that has seen no losses yet."""
        return self.start(schedule).draw(u)[0]

    def start(self, schedule: Schedule) -> "LossHistory":
        return LossHistory(self, schedule)


class LossHistory(IndexState):
    """The last losses of every index.

    Attributes:
        losses: the oldest first; the newest is always in the last column.
        counts: how many of a row's columns, from the last, hold losses.
    """

    sampler: LossSecondMoment
    losses: Float[Tensor, "n h"]
    counts: Int[Tensor, " n"]

    def __init__(self, sampler: LossSecondMoment, schedule: Schedule) -> None:
        super().__init__(sampler, schedule)
        self.losses = torch.zeros(self.schedule.steps, sampler.history, dtype=torch.float64)
        self.counts = torch.zeros(self.schedule.steps, dtype=torch.int64)

    def probabilities(self) -> Probabilities:
        n, share = self.losses.shape[0], self.sampler.uniform
        moments = self.losses.square().mean(1).sqrt()
        learned = moments / moments.sum() * (1.0 - share) + share / n
        is_known = (self.counts.min() >= self.sampler.history) & (moments.sum() > 0.0)
        return torch.where(is_known, learned, torch.full_like(learned, 1.0 / n))

    def observe(self, t: Float[Tensor, " b"], loss: Float[Tensor, " b"]) -> None:
        """Shift the rows to the left by as many as come in, and write those at the end, in the order of the batch."""
        (n, width), index = self.losses.shape, self.index_of(t)
        new = index.bincount(minlength=n)
        source = torch.arange(width) + new[:, None]
        self.losses = F.pad(self.losses, (0, 1)).gather(1, source.clamp(max=width))
        order = index.argsort(stable=True)
        row, value = index[order], loss.detach().cpu().double()[order]
        place = torch.arange(len(row)) - (new.cumsum(0) - new)[row]  # among the new ones of the row
        column = width - new[row] + place
        kept = column >= 0
        self.losses[row[kept], column[kept]] = value[kept]
        self.counts = (self.counts + new).clamp(max=width)

    def tensors(self) -> dict[str, Tensor]:
        return {"losses": self.losses, "counts": self.counts}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, mine in self.tensors().items():
            if name not in tensors or tensors[name].shape != mine.shape:
                raise UserError(f"the checkpoint is damaged: no {name} of shape {tuple(mine.shape)} of the times in it")
            mine.copy_(tensors[name])
