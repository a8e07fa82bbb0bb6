"""The model that distillation makes."""

from dlkit import samplers
from dlkit.generator.text_model import TextModel
from dlkit.part import from_spec
from dlkit.samplers._base import Sampler


class OneStepGenerator(TextModel):
    """A distilled student: one network call, or a few with re-noising between them.

    Its sampler holds the number of steps and the times that it was trained at, and is used where none is named.
    """

    kind = "student"
    how_to_guide = "guide its teacher in distillation (guidance.teacher)"

    def default_sampler(self, steps: int | None) -> Sampler:
        sampler = self.architecture.sampler
        if steps is None or steps == sampler.steps:
            return sampler
        return from_spec(samplers.registry, {"name": "renoise", "steps": steps, "t_init": sampler.t_init})
