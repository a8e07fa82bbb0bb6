"""The Recipe: every choice of a run in one frozen, typed object."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from dlkit import backbones, decoders, metrics, objectives, spaces, teachers
from dlkit.data.sequences import Layout
from dlkit.diffusion import processes, time_samplers
from dlkit.diffusion.parameterization import Source
from dlkit.errors import UserError
from dlkit.files import write_text
from dlkit.objectives._base import Objective
from dlkit.objectives._trajectory import StudentKind
from dlkit.part import explain, from_spec, optional_part_of, part_of, validated

UNFINISHED = "unfinished"  # the context of settings that need not go together: some are to come, or all is done


class Spec(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def replace(self, **settings: Any) -> Self:
        """A copy with some settings changed, validated like a new one. Raises ``UserError`` if one is wrong."""
        return validated(type(self), {**self.model_dump(), **settings}, type(self).__name__)


def _beside(setting: str, default: str, serves: Callable[[Objective], bool], lacks: str) -> Any:
    """The type of a setting that puts another objective beside the Recipe's: true is the default one, false none."""

    def read(value: Any) -> Any:
        if value is None or value is False:
            return None
        value = {} if value is True else value
        part = from_spec(objectives.registry, {"name": default, **value} if isinstance(value, dict) else value)
        if not serves(part):
            raise UserError(
                f"{setting}: objective {part.registered_name!r} {lacks}; set {setting}=true or {setting}.name={default}"
            )
        return part

    written = PlainSerializer(lambda part: None if part is None else part.spec(), return_type=dict | None)
    return Annotated[Objective | None, BeforeValidator(read), written]


Adversary = _beside("adv", "adversarial", lambda part: part.is_adversary, "has no discriminator")
Anchor = _beside(
    "anchor",
    "ode_regression",
    lambda part: part.needs.regression,
    "does not learn from the teacher's samples",
)


Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Spec):
    """AdamW.

    Attributes:
        lr: learning rate at its highest; betas, eps, weight_decay: AdamW's.
        clip: largest gradient norm; None clips nothing.
        warmup: updates over which the learning rate rises.
        decay: ``linear`` falls over the run or stage, ``constant`` does not fall.
        end: share of ``lr`` that a linear decay ends at.
    """

    lr: float = Field(default=1e-5, gt=0)
    betas: tuple[Beta, Beta] = (0.0, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=None, gt=0)
    warmup: int = Field(default=0, ge=0)
    decay: Literal["linear", "constant"] = "constant"
    end: float = Field(default=0.0, ge=0, le=1)


class Model(Spec):
    """What ``dlkit train`` builds. Distillation takes all of it from the teacher.

    Attributes:
        family: how the teacher is fitted. What is not said of the rest is what the family usually has.
        space, process, backbone: its parts.
        prediction: what the backbone learns to put out; everything else sees x0, whatever it is.
        layout: ``pairs`` of source and target, or text without a source: ``padded``, one text in each sequence, or
            ``packed``, texts one after another, cut where a sequence ends.
        seq_len: positions of a sequence, source and target together.
        tokenizer: a file or folder, a hub name, or ``train:wordpiece:8192``.
        overlong: what to do with a text that does not fit.
    """

    family: part_of(teachers.registry) = "diffuseq"  # type: ignore[valid-type]
    space: part_of(spaces.registry) = "embedding"  # type: ignore[valid-type]
    process: part_of(processes.registry) = "gaussian"  # type: ignore[valid-type]
    backbone: part_of(backbones.registry) = "diffuseq"  # type: ignore[valid-type]
    prediction: Source = "x0"
    layout: Layout = "pairs"
    seq_len: int = Field(default=128, ge=8)
    tokenizer: str = "bert-base-uncased"
    overlong: Literal["truncate", "refuse"] = "truncate"

    @model_validator(mode="before")
    @classmethod
    def _usual_parts_of_the_family(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "family" not in data:
            return data
        family = from_spec(teachers.registry, data["family"])
        return {**family.usual, **data, "family": family}

    @model_validator(mode="after")
    def _backbone_is_long_enough(self, info: ValidationInfo) -> Self:
        most = getattr(self.backbone, "max_positions", self.seq_len)
        if self.seq_len > most and info.context is not UNFINISHED:
            raise ValueError(f"seq_len={self.seq_len} is more than backbone.max_positions={most}; change one of them")
        return self

    @model_validator(mode="after")
    def _schedule_knows_every_position(self, info: ValidationInfo) -> Self:
        known = getattr(getattr(self.process, "schedule", None), "positions", None)
        if known not in (None, self.seq_len) and info.context is not UNFINISHED:
            raise ValueError(f"seq_len={self.seq_len} is not the {known} positions of the schedule; change one of them")
        return self


class Fit(Spec):
    """How ``dlkit train`` fits a teacher.

    Attributes:
        steps, batch_size: length of the run.
        microbatch: samples in one backward pass; None means the whole batch. Gradients are those of the mean over the
            batch, however it is cut.
        optimizer: AdamW's settings.
        ema: decay of the averaged weights, which are the ones kept.
        ema_warmup: the decay rises as min(ema, (1 + n) / (10 + n)); otherwise it is ``ema`` from the first update on.
        time_sampler: distribution of the training times.
        condition_dropout: share of samples whose source is dropped: all its tokens become padding, and stay given. A
            teacher that has seen some can be guided.
    """

    steps: int = Field(default=50_000, ge=1)
    batch_size: int = Field(default=2048, ge=1, le=2**20)
    microbatch: int | None = Field(default=None, ge=1)
    optimizer: Optimizer = Optimizer(lr=1e-4, betas=(0.9, 0.999), decay="linear")
    ema: float = Field(default=0.9999, ge=0, lt=1)
    ema_warmup: bool = True
    time_sampler: part_of(time_samplers.registry) = "uniform"  # type: ignore[valid-type]
    condition_dropout: float = Field(default=0.0, ge=0, lt=1)


class Weights(Spec):
    """Weights of the loss terms, with the paper's names (Algorithm 1).

    Attributes:
        a_dsm, b_adv_psi: denoising and adversarial term of the critic.
        a_sd, b_adv_theta: distillation and adversarial term of the generator.
        c_anchor: regression beside them in the generator's turn, if there is an anchor; beside a_sd = 0.5 it has
            DMD's share, a quarter (arXiv 2311.18828).
    """

    a_dsm: float = Field(default=0.5, ge=0)
    b_adv_psi: float = Field(default=0.5, ge=0)
    a_sd: float = Field(default=0.5, ge=0)
    b_adv_theta: float = Field(default=0.5, ge=0)
    c_anchor: float = Field(default=0.125, ge=0)


class UpdatePlan(Spec):
    """Who steps when, on which samples.

    The name of a published plan stands for its settings: ``dlm_one`` (also SiD's) 1 critic update on fresh samples
    before each generator update, ``dmd2`` 5, the last on the generator's samples, ``fastgen`` 4 on fresh ones.

    Attributes:
        critic_steps_per_generator_step: critic updates before each generator update.
        share_samples: the last critic update and the generator update see the same generated batch.
    """

    critic_steps_per_generator_step: int = Field(default=1, ge=1)
    share_samples: bool = False

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        if data not in PLANS:
            near = difflib.get_close_matches(data, PLANS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PLANS)}"
            raise ValueError(f"there is no update plan {data!r}; {hint}")
        return PLANS[data]


PLANS: dict[str, dict[str, Any]] = {
    "dlm_one": {"critic_steps_per_generator_step": 1, "share_samples": False},
    "dmd2": {"critic_steps_per_generator_step": 5, "share_samples": True},
    "fastgen": {"critic_steps_per_generator_step": 4, "share_samples": False},
}


class Guidance(Spec):
    """Classifier-free guidance in distillation: x0_null + w (x0_cond - x0_null), where w = 1 is none.

    DMD2 guides the teacher alone (arXiv 2405.14867). SiD-LSG (arXiv 2406.01561) guides the fake score too, where it
    learns and where it is asked; its four scales kappa_1, kappa_2 = kappa_3 and kappa_4 are ``critic``, ``fake_score``
    and ``teacher``, and all of one value in what it recommends.

    Attributes:
        teacher: w of the teacher, in score distillation and for the samples that a student is fitted to.
        fake_score: w of the fake score in the generator's turn.
        critic: w of the fake score where it learns.
        condition_dropout: share of the critic's samples, generated and real, whose source is dropped.
    """

    teacher: float = 1.0
    fake_score: float = 1.0
    critic: float = 1.0
    condition_dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def is_used(self) -> bool:
        """Whether a network is asked without its source."""
        return self != Guidance()

    @model_validator(mode="after")
    def _fake_score_learns_without_source(self, info: ValidationInfo) -> Self:
        untaught = self.fake_score != 1.0 and self.critic == 1.0 and not self.condition_dropout
        if untaught and info.context is not UNFINISHED:
            raise ValueError(
                f"fake_score={self.fake_score:g} asks the fake score without its source, which nothing teaches it; "
                f"set critic={self.fake_score:g} as SiD-LSG does, or condition_dropout=0.1"
            )
        return self


class Stage(Spec):
    """One stage: the student goes on from the best one so far, the critic starts from the teacher.

    Attributes:
        steps: generator updates.
        critic_warmup: critic updates before the first generator update, so that the fake score knows a student that
            is no longer the teacher.
        objective, weights, time_sampler, lr_generator, lr_critic: None keeps the Recipe's.
    """

    steps: int = Field(default=50_000, ge=1)
    critic_warmup: int = Field(default=0, ge=0)
    objective: optional_part_of(objectives.registry) = None  # type: ignore[valid-type]
    weights: Weights | None = None
    time_sampler: optional_part_of(time_samplers.registry) = None  # type: ignore[valid-type]
    lr_generator: float | None = Field(default=None, gt=0)
    lr_critic: float | None = Field(default=None, gt=0)


class Evaluation(Spec):
    """Validation during a run and the choice of the best model.

    Attributes:
        every: generator updates (or fitting steps) between two evaluations.
        metric: what the best student is chosen by; None is ``bleu``, or without sources ``ngram_divergence``.
        n_sources: sources of the validation split, the first ones. Without sources, texts that are written, and how
            many held-out ones they are compared with.
        num_samples: outputs for each source; without sources of no use.
        steps: network calls of one output; None is a student's own number, and 20 DDIM steps of a teacher.
    """

    every: int = Field(default=200, ge=1)
    metric: optional_part_of(metrics.registry) = None  # type: ignore[valid-type]
    n_sources: int = Field(default=256, ge=1)
    num_samples: int = Field(default=2, ge=1)
    steps: int | None = Field(default=None, ge=1)


class Run(Spec):
    """How a run is carried out; none of it changes what is computed, up to rounding.

    Attributes:
        device: ``auto`` takes a GPU if there is one.
        precision: ``bf16`` computes the networks under autocast; weights stay fp32.
        log_every, checkpoint_every: steps.
    """

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=1000, ge=1)


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
        return {**rest, "model": {**model, "family": data["teacher"]}}

    @model_validator(mode="after")
    def _all_goes_together(self, info: ValidationInfo) -> Self:
        if info.context is not UNFINISHED:
            self._only_a_fit_weights_times()
            self._trajectories_are_alone()
            self._every_step_is_taught()
            for objective in self._objectives:
                self._discriminator_serves(objective)
            self._settings_of_a_critic_have_one()
            self._something_is_beside_a_regression()
            self._a_source_is_there_to_drop()
        return self

    @property
    def _objectives(self) -> list[Objective]:
        """The Recipe's own, and those of the stages that have their own."""
        return list(filter(None, (self.objective, *(stage.objective for stage in self.stages))))  # type: ignore[arg-type]

    def _only_a_fit_weights_times(self) -> None:
        for sampler in (self.time_sampler, *(stage.time_sampler for stage in self.stages)):
            if sampler is not None and sampler.weighted:  # type: ignore[attr-defined]
                name = sampler.registered_name
                raise ValueError(f"time_sampler {name!r} weights losses, which only a fit does; set fit.time_sampler")

    def _trajectories_are_alone(self) -> None:
        """Refuse what stands beside an objective of trajectories, and stages whose students differ in kind."""
        stages = range(len(self.stages))
        kinds = {self.student_kind(number): self._objective(number).registered_name for number in stages}
        if len(kinds) > 1:
            names = " and ".join(map(repr, kinds.values()))
            raise ValueError(f"objectives {names} make different kinds of student; give each a run of its own")
        if not all(self.is_trajectory(number) for number in stages):
            return
        name = f"objective {self._objective(0).registered_name!r}"
        for setting in ("adv", "anchor", "codes"):
            if getattr(self, setting) is not None:
                raise ValueError(f"{setting}: {name} learns from noised real text alone; set {setting}=null")
        if self.generator_input != "noise":
            raise ValueError(f"generator_input={self.generator_input}: {name} teaches every step at once; set noise")

    def _every_step_is_taught(self) -> None:
        if all(self.is_trajectory(number) for number in range(len(self.stages))):
            return
        if self.generator_steps == 1:
            if self.generator_input != "noise":
                raise ValueError(
                    f"generator_input={self.generator_input}: a student of one step has no later ones; "
                    "set generator_input=noise or more generator_steps"
                )
            return
        if self.generator_input == "noise":
            raise ValueError(
                f"generator_steps={self.generator_steps}: from noise only the first step learns; "
                "set generator_input=backward_simulation or noised_data"
            )
        if self.codes is not None:
            raise ValueError(f"codes={self.codes} are noise of a single step; set codes=null or generator_steps=1")
        for objective in self._objectives:
            if objective.asks_origin:
                name = objective.registered_name
                raise ValueError(f"objective {name!r} asks for the noise of a single step; set generator_steps=1")

    def _discriminator_serves(self, objective: Objective) -> None:
        """Refuse an objective that ``adv`` does not give the discriminator it needs."""
        name, adv = f"objective {objective.registered_name!r}", self.adv
        if "discriminator" in objective.needs.roles and adv is None:
            raise ValueError(f"{name} needs a discriminator; set adv=true")
        if objective.needs.log_ratio and not getattr(adv, "logit_is_log_ratio", False):
            raise ValueError(f"{name} needs a discriminator whose logit is a log-ratio; set adv.loss=non_saturating")
        if objective.is_adversary and objective not in (adv, type(objective)()):
            raise ValueError(f"{name} is adv without anything beside it; give its settings to adv")

    def _settings_of_a_critic_have_one(self) -> None:
        learns = [self.has_critic(number) for number in range(len(self.stages))]
        for number, stage in enumerate(self.stages):
            if stage.critic_warmup and not learns[number]:
                name = self._objective(number).registered_name
                raise ValueError(
                    f"stages.{number}.critic_warmup={stage.critic_warmup}: with objective {name!r} no critic learns in "
                    f"this stage; set stages.{number}.critic_warmup=0"
                )
        given, plain = self.guidance, Guidance(teacher=self.guidance.teacher)
        names = [name for name in Guidance.model_fields if getattr(given, name) != getattr(plain, name)]
        if names and not any(learns):
            unused = ", ".join(f"guidance.{name}={getattr(given, name):g}" for name in names)
            raise ValueError(f"{unused}: no critic learns in any stage; set guidance={{teacher: {given.teacher:g}}}")

    def _something_is_beside_a_regression(self) -> None:
        if all(self.stands_alone(number) for number in range(len(self.stages))):
            for name in ("adv", "anchor"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} stands beside an objective that is no regression to the teacher's samples, "
                        f"but every stage is one; set {name}=false"
                    )

    def _a_source_is_there_to_drop(self) -> None:
        if self.model.layout != "pairs" and self.fit.condition_dropout:
            raise ValueError(
                f"fit.condition_dropout={self.fit.condition_dropout:g}: texts of model.layout={self.model.layout} have "
                "no source to drop; set fit.condition_dropout=0"
            )

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

    def is_regression(self, number: int) -> bool:
        """Whether the student is fitted to the teacher's samples in stage ``number``, with nothing beside it."""
        return self._objective(number).needs.regression

    def is_trajectory(self, number: int) -> bool:
        """Whether the student learns the teacher's trajectories in stage ``number``, from noised real text."""
        return "student" in self._objective(number).needs.roles

    def stands_alone(self, number: int) -> bool:
        """Whether nothing is beside the objective of stage ``number``: no adversary, no anchor, no critic."""
        return self.is_regression(number) or self.is_trajectory(number)

    def has_critic(self, number: int) -> bool:
        """Whether a critic learns in stage ``number``: a fake score, and the head if there is an adversary."""
        return not self.stands_alone(number) and (self._objective(number).needs.critic or self.adv is not None)

    def student_kind(self, number: int) -> StudentKind:
        """What the student of stage ``number`` is to the teacher's network."""
        return getattr(self._objective(number), "student_kind", "same")

    def _objective(self, number: int) -> Objective:
        return self.stages[number].objective or self.objective  # type: ignore[return-value]

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
                _assign(data, assignment)
            except UserError:  # perhaps below a part that was just given by its name, or as true: write it out
                data = self._read(data, "--set", UNFINISHED).to_dict()
                _assign(data, assignment)
        return type(self).from_dict(data, where="--set")


def _assign(data: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    if not equals:
        raise UserError(f"--set {assignment}: expected PATH=VALUE, for example --set objective.mu=1.0")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {assignment}: {text!r} is not a YAML value; quote it") from None
    *parents, last = path.strip().split(".")
    node: Any = data
    for depth, key in enumerate(parents):
        node = node[_key(node, key, path, parents[:depth])]
    node[_key(node, last, path, parents)] = value


def _key(node: Any, key: str, path: str, above: list[str]) -> str | int:
    """The key of ``node`` that a path means, or an error that lists those there are."""
    place = ".".join(above) or "the recipe"
    if isinstance(node, list):
        if key.isdigit() and int(key) < len(node):
            return int(key)
        raise UserError(f"--set {path}: {place} has items 0 to {len(node) - 1}, not {key!r}")
    if not isinstance(node, dict):
        raise UserError(f"--set {path}: {place} is {node!r} and has nothing below it; set {place} itself")
    if key not in node:
        near = difflib.get_close_matches(key, node, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(node)}"
        raise UserError(f"--set {path}: {place} has no {key!r}; {hint}")
    return key
