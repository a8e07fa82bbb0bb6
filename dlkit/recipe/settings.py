"""The groups of settings that a Recipe is made of, each in itself typed and checked."""

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from dlkit import backbones, metrics, objectives, spaces, teachers
from dlkit.data.sequences import Layout
from dlkit.diffusion import processes, time_samplers
from dlkit.diffusion.parameterization import Source
from dlkit.part import from_spec, optional_part_of, part_of, validated

UNFINISHED = "unfinished"  # the context of settings that need not go together: some are to come, or all is done


class Spec(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def replace(self, **settings: Any) -> Self:
        """A copy with some settings changed, validated like a new one. Raises ``UserError`` if one is wrong."""
        return validated(type(self), {**self.model_dump(), **settings}, type(self).__name__)


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
        a_dsm, b_adv_psi: denoising and adversarial term of the critic. The former is a squared error relative to the
            variance of a coordinate of the states of texts: 1 for tables, 1 / V for one-hot states.
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
        share_predictions: they also see it at the same times under the same noise, and one call of the fake score
            serves both: the generator follows the fake score as it is before that update.
    """

    critic_steps_per_generator_step: int = Field(default=1, ge=1)
    share_samples: bool = False
    share_predictions: bool = False

    @model_validator(mode="after")
    def _predictions_are_of_shared_samples(self) -> Self:
        if self.share_predictions and not self.share_samples:
            raise ValueError("share_predictions needs share_samples=true: predictions are of those samples")
        return self

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
        memory: what a backward pass finds of a forward pass. ``fast`` is all of it. ``low`` computes again what is
            cheap in the layers of networks that are trained, and of two frozen networks calls one again; ``lowest``
            computes every layer again.
        compile: ``kernels`` compiles the losses, ``networks`` the networks too; it takes a while at the start, and a
            C++ compiler, or Triton on a GPU.
        log_every, checkpoint_every: steps.
    """

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    memory: Literal["fast", "low", "lowest"] = "fast"
    compile: Literal["nothing", "kernels", "networks"] = "nothing"
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=1000, ge=1)
