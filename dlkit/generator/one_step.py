"""The model that distillation makes."""

from typing import Any

from dlkit import samplers
from dlkit.generator.text_model import TextModel
from dlkit.part import from_spec
from dlkit.samplers._base import Sampler


class OneStepGenerator(TextModel):
    """A distilled student: one network call, or a few with re-noising, or along its flow map, between them.

    Its sampler holds the number of steps and the times that it was trained at, and is used where none is named.
    """

    kind = "student"
    how_to_guide = "guide its teacher in distillation (guidance.teacher)"

    def default_sampler(self, steps: int | None) -> Sampler:
        sampler = self.architecture.sampler
        if steps is None or steps == sampler.steps:
            return sampler
        if sampler.any_steps:
            return sampler.replace(steps=steps)
        taught = {key: value for key, value in sampler.spec().items() if key in ("t_init", "codes", "codes_seed")}
        return from_spec(samplers.registry, {"name": "renoise", "steps": steps, **taught})

    def choose_sampler(self, sampler: str | dict[str, Any] | Sampler | None, steps: int | None) -> Sampler:
        """As for every model; what is not said of the student's own sampler stays as it was taught.

        Raises:
            UserError: no such sampler, or a number of steps it cannot take.
        """
        own = self.architecture.sampler
        said = {"name": sampler} if isinstance(sampler, str) else sampler
        if isinstance(said, dict) and said.get("name") == own.registered_name:
            said = {**own.spec(), **said}
        return super().choose_sampler(said, steps)
