"""The Recipe: every choice of a run in one frozen, typed object."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator

from dlkit import decoders, objectives, teachers
from dlkit.diffusion import time_samplers
from dlkit.errors import UserError
from dlkit.files import write_text
from dlkit.objectives._base import Objective
from dlkit.objectives._trajectory import StudentKind
from dlkit.part import explain, from_spec, part_of
from dlkit.recipe.agreement import agree
from dlkit.recipe.assignment import assign
from dlkit.recipe.beside import Adversary, Anchor
from dlkit.recipe.settings import (
    UNFINISHED,
    Evaluation,
    Fit,
    Guidance,
    Model,
    Optimizer,
    Run,
    Spec,
    Stage,
    UpdatePlan,
    Weights,
)


class Recipe(Spec):
    """Every choice of fitting a teacher and distilling it.

    Wrong settings raise ``UserError`` with one line that names the key, what is wrong with it and the nearest key there
    is.

    Attributes:
        objective: what the student is trained on.
        adv: the adversarial term beside the objective; True is the default one, False or None is none.
        anchor: regression to the teacher's samples beside the objective, which holds the student to the teacher's texts
            for its noise; True is the default one, False or None is none.
        codes: how many different noises the student is given: fixed draws of the prior, each equally likely. The fewer
            they are, the simpler is what it has to learn; it can write that many texts for a source. None is all noise.
        decoder: states to tokens.
        time_sampler: times at which generated and real text is noised.
        t_init: the time the student is evaluated at; of several steps, the first.
        generator_steps: k, network calls of the student, at times t_init (1 - i / k), i = 0 ... k - 1.
        generator_input: what a student of several steps learns from at its later ones. ``noised_data``: real text,
            noised to the step's time. ``backward_simulation``: its own text of the step before, likewise, made without
            gradient. With ``noise`` there are no later ones. The first step's input is noise in any case.
        x0_noise: whether texts get DiffuSeq's sigma_0 noise before they are noised; the same for real and generated.
        batch_size: samples of one update.
        generator, critic: optimisers of the student, and of the fake score with its head.
        ema: decay of the averaged student, one tick for each generator update.
        guidance: classifier-free guidance of teacher and fake score.
        weights, plan, stages, evaluation, run, model, fit: see their classes.

    ``Recipe(teacher="plaid", ...)`` is short for ``Recipe(model={"family": "plaid"}, ...)``: the family, and the parts
    that its teachers usually have.
    """

    objective: part_of(objectives.registry) = "sid"  # type: ignore[valid-type]
    adv: Adversary = None  # type: ignore[valid-type]
    anchor: Anchor = None  # type: ignore[valid-type]
    codes: int | None = Field(default=None, ge=1, le=2**24, strict=True)
    decoder: part_of(decoders.registry) = "linear_head"  # type: ignore[valid-type]
    time_sampler: part_of(time_samplers.registry) = "uniform"  # type: ignore[valid-type]
    t_init: float = Field(default=0.7455, gt=0, le=1)
    generator_steps: int = Field(default=1, ge=1)
    generator_input: Literal["noise", "noised_data", "backward_simulation"] = "noise"
    x0_noise: Literal["none", "sigma_0"] = "none"
    batch_size: int = Field(default=64, ge=1, le=2**16)
    generator: Optimizer = Optimizer()
    critic: Optimizer = Optimizer()
    ema: float = Field(default=0.999, ge=0, lt=1)
    guidance: Guidance = Guidance()
    weights: Weights = Weights()
    plan: UpdatePlan = UpdatePlan()
    stages: tuple[Stage, ...] = Field(default=(Stage(),), min_length=1)
    evaluation: Evaluation = Evaluation()
    run: Run = Run()
    model: Model = Model()
    fit: Fit = Fit()

    @model_validator(mode="before")  # after the next one, which may name the family
    @classmethod
    def _usual_fit_of_the_family(cls, data: Any) -> Any:
        model, fit = (data.get(key, {}) if isinstance(data, dict) else None for key in ("model", "fit"))
        if not isinstance(model, dict) or not isinstance(fit, dict) or "family" not in model:
            return data
        return {**data, "fit": {**from_spec(teachers.registry, model["family"]).usual_fit, **fit}}

    @model_validator(mode="before")
    @classmethod
    def _teacher_is_a_family(cls, data: Any) -> Any:
        """``teacher="flm"`` is short for ``model={"family": "flm"}``, all that the family usually has."""
        if not isinstance(data, dict) or "teacher" not in data:
            return data
        rest = {key: value for key, value in data.items() if key != "teacher"}
        model = rest.get("model", {})
        if not isinstance(model, dict) or "family" in model:
            raise ValueError("teacher and model.family say the same; give one of them")
        if _is_path(data["teacher"]):
            raise ValueError(
                f"teacher: {data['teacher']} is no family but a path; a folder goes to distill(teacher=...)"
            )
        return {**rest, "model": {**model, "family": data["teacher"]}}

    @model_validator(mode="after")
    def _all_goes_together(self, info: ValidationInfo) -> Self:
        if info.context is not UNFINISHED:
            agree(self)
        return self

    @model_validator(mode="wrap")  # the last one, so that it also wraps the validator above
    @classmethod
    def _wrong_settings_are_told(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise UserError(explain(error, cls)) from None

    def stage(self, number: int) -> Stage:
        """Stage ``number`` (from 0) with nothing left open."""
        stage = self.stages[number]
        return Stage(
            steps=stage.steps,
            critic_warmup=stage.critic_warmup,
            objective=stage.objective or self.objective,
            weights=stage.weights or self.weights,
            time_sampler=stage.time_sampler or self.time_sampler,
            lr_generator=stage.lr_generator or self.generator.lr,
            lr_critic=stage.lr_critic or self.critic.lr,
        )

    def objective_of(self, number: int) -> Objective:
        """The objective of stage ``number``: its own, or the Recipe's."""
        return self.stages[number].objective or self.objective  # type: ignore[return-value]

    @property
    def all_objectives(self) -> list[Objective]:
        """The Recipe's own, and those of the stages that have their own."""
        return list(filter(None, (self.objective, *(stage.objective for stage in self.stages))))  # type: ignore[arg-type]

    @property
    def only_trajectories(self) -> bool:
        """Whether the student learns the teacher's trajectories in every stage."""
        return all(self.is_trajectory(number) for number in range(len(self.stages)))

    def is_regression(self, number: int) -> bool:
        """Whether the student is fitted to the teacher's samples in stage ``number``, with nothing beside it."""
        return self.objective_of(number).needs.regression

    def is_trajectory(self, number: int) -> bool:
        """Whether the student learns the teacher's trajectories in stage ``number``, from noised real text."""
        return "student" in self.objective_of(number).needs.roles

    def stands_alone(self, number: int) -> bool:
        """Whether nothing is beside the objective of stage ``number``: no adversary, no anchor, no critic."""
        return self.is_regression(number) or self.is_trajectory(number)

    @property
    def only_stand_alone(self) -> bool:
        """Whether no stage has anything beside its objective."""
        return all(self.stands_alone(number) for number in range(len(self.stages)))

    def has_critic(self, number: int) -> bool:
        """Whether a critic learns in stage ``number``: a fake score, and the head if there is an adversary."""
        return not self.stands_alone(number) and (self.objective_of(number).needs.critic or self.adv is not None)

    def student_kind(self, number: int) -> StudentKind:
        """What the student of stage ``number`` is to the teacher's network."""
        return getattr(self.objective_of(number), "student_kind", "same")

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which an equal Recipe is made."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, data: Any, where: str = "recipe") -> Self:
        """Validate plain data.

        Raises:
            UserError: a setting is wrong; the line begins with ``where``.
        """
        return cls._read(data, where)

    @classmethod
    def _read(cls, data: Any, where: str, context: Any = None) -> Self:
        if not isinstance(data, dict):
            raise UserError(f"{where}: expected keys and values, got {type(data).__name__}")
        try:
            return cls.model_validate(data, context=context)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def to_yaml(self, path: str | Path) -> None:
        """Write every setting to a YAML file."""
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False))

    @classmethod
    def from_yaml(cls, path: str | Path, record: bool = False) -> Self:
        """Read a Recipe.

        Args:
            path: of the file.
            record: it says how a model was made; whether its settings go together is not asked again.

        Raises:
            UserError: the file is missing, is not YAML, or does not describe a Recipe.
        """
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the recipe {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
        return cls._read({} if data is None else data, str(path), UNFINISHED if record else None)

    def with_settings(self, assignments: list[str]) -> Self:
        """A copy with ``a.b=3`` assignments applied in order; values are read as YAML.

        Raises:
            UserError: an assignment has no ``=``, its path does not exist, or its value does not fit.
        """
        data = self.to_dict()
        for assignment in assignments:
            try:
                assign(data, assignment)
            except UserError:  # perhaps below a part that was just given by its name, or as true: write it out
                data = self._read(data, "--set", UNFINISHED).to_dict()
                assign(data, assignment)
        return type(self).from_dict(data, where="--set")


def _is_path(teacher: Any) -> bool:
    """Whether this is a folder of a model, or was meant to be one."""
    if not isinstance(teacher, str) or teacher in teachers.names():
        return isinstance(teacher, Path)
    return Path(teacher).name != teacher or Path(teacher).exists()
