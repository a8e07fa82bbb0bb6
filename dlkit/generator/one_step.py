"""The model that distillation makes."""

from typing import Any

from dlkit import samplers
from dlkit.errors import UserError
from dlkit.generator.text_model import TextModel
from dlkit.part import from_spec
from dlkit.samplers._base import Sampler
from dlkit.samplers._student import StudentSampler


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
        return from_spec(samplers.registry, {"name": "renoise", "steps": steps, **self.taught})

    @property
    def taught(self) -> dict[str, Any]:
        """What its sampler knows of its noise, whatever the number of steps."""
        spec = self.architecture.sampler.spec()
        return {key: spec[key] for key in ("t_init", "codes", "codes_seed") if key in spec}

    def choose_sampler(self, sampler: str | dict[str, Any] | Sampler | None, steps: int | None) -> Sampler:
        """As for every model; what is not said stays as the student was taught.

        Raises:
            UserError: no such sampler, a number of steps it cannot take, or one that asks the student what it was never
                taught.
        """
        own = self.architecture.sampler
        said = {"name": sampler} if isinstance(sampler, str) else sampler
        if isinstance(said, dict) and "name" in said:
            if said["name"] == own.registered_name:
                said = {**own.spec(), **said}
            elif issubclass(samplers.registry.get(said["name"]), StudentSampler):
                said = {**self.taught, **said}
        chosen = super().choose_sampler(said, steps)
        if own.any_steps and isinstance(chosen, StudentSampler):
            raise UserError(
                f"sampler {chosen.registered_name!r}: this student jumps along a flow map; give steps alone, or "
                "{name: flow_map, gamma: 1}, which noises the text again after each jump"
            )
        if chosen.any_steps and not own.any_steps:
            raise UserError(
                f"sampler {chosen.registered_name!r}: this student never learnt to jump along a flow map; give steps "
                "alone, which noises its text again after each call"
            )
        return chosen
