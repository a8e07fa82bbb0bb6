"""The teacher's samples that a student is fitted to."""

from collections.abc import Callable

import torch

from dlkit.data.sequences import batch_indices
from dlkit.objectives._base import Noised
from dlkit.objectives.ode_regression import OdeRegression
from dlkit.objectives.reflow import Reflow
from dlkit.samplers.ddim import Ddim
from dlkit.training.data import Corpus
from dlkit.training.turns import Studio

CHUNK = 256


class TeacherSamples:
    """Sources and x0(z) = DDIM(teacher, z), held in memory: see :meth:`bytes`; z is drawn again where it is wanted.

    They are a function of seed, teacher and data, so a resumed run makes them again instead of storing them. A run
    holds those of one stage at a time.

    Args:
        objective: how many, with how many steps.
        studio: of the stage.
        corpus: sources.
        device: of the run.
        told: is called with the number of samples that are made, each time some are.
    """

    def __init__(
        self,
        objective: OdeRegression | Reflow,
        studio: Studio,
        corpus: Corpus,
        device: torch.device,
        told: Callable[[int], None] = lambda made: None,
    ) -> None:
        self.studio, self.path = studio, objective.needs.path
        self.order = studio.stream.named("pairs/order").integer()
        rows = studio.stream.named("pairs/rows").integer()
        self.draw = corpus.draw(objective.pairs, 0, rows, device)
        sampler = Ddim(steps=objective.steps, rounding=objective.rounding)
        self.x0 = torch.empty(*self.draw.batch.ids.shape, studio.space.dim, device=device)  # pieces would hold it twice
        for piece in torch.arange(objective.pairs).split(CHUNK):
            self.x0[piece] = self._sample(piece, sampler)
            told(int(piece[-1]) + 1)

    @staticmethod
    def bytes(pairs: int, seq_len: int, dim: int) -> int:
        """Memory that is held: x0, dim numbers of 4 bytes at each position; an id of 8 and a mask of 1; two indices."""
        return pairs * (seq_len * (4 * dim + 8 + 1) + 2 * 8)

    @torch.no_grad()
    def _sample(self, piece: torch.Tensor, sampler: Ddim) -> torch.Tensor:
        cond = self.studio.condition(self.draw.rows(piece))
        return sampler.sample(self.studio.networks.teacher, cond, lambda _: self.z(piece))

    def z(self, rows: torch.Tensor) -> torch.Tensor:
        """The noise that the teacher's samples ``rows`` began from."""
        return self.studio.noise(self.draw.rows(rows), "pairs", 0)

    def noised(self, batch_size: int, step: int) -> Noised:
        """The student's texts of one update beside the teacher's.

        From noise nothing else is noised, and t = 0. On a path the student is asked at alpha x0 + sigma z.
        """
        piece = batch_indices(len(self.x0), batch_size, step, self.order)
        draw, z, target = self.draw.rows(piece), self.z(piece), self.x0[piece]
        cond = self.studio.condition(draw)
        if self.path:
            t = self.studio.times(self.studio.stream.named("pairs/time").at(step).uniform(draw.index))
            x_t = self.studio.process.q_sample(target, t, z, cond)
            return Noised(self.studio.denoised(cond, x_t, t), x_t, t, cond, target)
        x0 = self.studio.student(cond, z)
        return Noised(x0, x0, x0.new_zeros(len(x0)), cond, target)
