"""The model that is distilled."""

from typing import Any, Self

from dlkit.errors import UserError
from dlkit.generator.architecture import Architecture
from dlkit.generator.text_model import TextModel
from dlkit.part import validated
from dlkit.recipe import Fit, Model, Recipe
from dlkit.teachers._base import TeacherFamily, TeacherParts


class Teacher(TextModel):
    """A diffusion language model that needs many network calls; DDIM unless told otherwise."""

    kind = "teacher"
    how_to_guide = "train one with fit.condition_dropout=0.1"

    @classmethod
    def from_parts(cls, family: TeacherFamily, parts: TeacherParts, where: str = "the checkpoint") -> Self:
        """The teacher that was found in an official checkpoint; its Recipe says as much as is known of how it was made.

        Args:
            family: whose checkpoint it was; the parts may hold it with other settings.
            parts: what it is made of.
            where: what messages begin with.

        Raises:
            UserError: a setting of the original has no place in a Recipe, or its tensors do not fit its settings.
        """
        architecture, recipe = cls.described(family, parts, where)
        denoiser = architecture.build()
        try:
            denoiser.load_state_dict(parts.state)
        except RuntimeError as error:  # of torch, with one line for each tensor
            raise UserError(f"{where}: its tensors do not fit its settings: {' '.join(str(error).split())}") from None
        return cls(denoiser, parts.tokenizer, architecture, recipe)

    @staticmethod
    def described(
        family: TeacherFamily, parts: TeacherParts, where: str = "the checkpoint"
    ) -> tuple[Architecture, Recipe]:
        """What is known of the teacher in an official checkpoint, without its weights; see :meth:`from_parts`."""
        model: dict[str, Any] = {
            "family": parts.family or family,
            "space": parts.space,
            "process": parts.process,
            "backbone": parts.backbone,
            "prediction": parts.prediction,
            "seq_len": parts.seq_len,
        }
        told = {"overlong": parts.overlong, "layout": parts.layout or "pairs"}
        model |= {name: setting for name, setting in told.items() if setting is not None}
        decoder: dict[str, Any] = {} if parts.decoder is None else {"decoder": parts.decoder}
        made = validated(Model, {**model, "tokenizer": parts.tokenizer_spec}, where)
        recipe = validated(Recipe, {"model": made, "fit": validated(Fit, parts.fit, where), **decoder}, where)
        rest = {
            "vocab_size": parts.tokenizer.vocab_size,
            "decoder": recipe.decoder,
            "sampler": parts.sampler or family.usual_sampler,
            "condition_dropout": recipe.fit.condition_dropout,
        }
        return validated(Architecture, {**model, **rest}, where), recipe

    def parts(self) -> TeacherParts:
        """What this teacher is made of, for writing it in another format."""
        arch = self.architecture
        return TeacherParts(
            space=arch.space,
            process=arch.process,
            backbone=arch.backbone,
            seq_len=arch.seq_len,
            tokenizer=self.tokenizer,
            tokenizer_spec=self.recipe.model.tokenizer,
            state=self.denoiser.state_dict(),
            fit=self.recipe.fit.model_dump(mode="json"),
            prediction=arch.prediction,
            family=arch.family,
            decoder=arch.decoder,
            sampler=arch.sampler,
            overlong=arch.overlong,
            layout=arch.layout,
        )
