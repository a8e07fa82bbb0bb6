"""Whether a teacher and a device can do what a Recipe asks, told before any work is done."""

import torch

from dlkit.diffusion.parameterization import LOGITS
from dlkit.errors import UserError
from dlkit.generator import Architecture
from dlkit.objectives._trajectory import Trajectory
from dlkit.recipe import Recipe
from dlkit.samplers.renoise import Renoise
from dlkit.training.memory import total_memory
from dlkit.training.teacher_samples import TeacherSamples


def check_feasible(recipe: Recipe, teacher: Architecture, device: torch.device) -> None:
    """Raise ``UserError`` for what the teacher does not have or was not trained for, or more samples than memory."""
    check_steps(recipe, teacher)
    check_time(recipe, teacher)
    check_guidance(recipe, teacher)
    check_layer(recipe, teacher)
    check_trajectories(recipe, teacher)
    check_memory(recipe, teacher, device)


def check_trajectories(recipe: Recipe, teacher: Architecture) -> None:
    """Distributions are compared where there are some, and half of a batch is not nothing."""
    for number in range(len(recipe.stages)):
        objective = recipe.stage(number).objective
        if not isinstance(objective, Trajectory):
            continue
        name = f"objective {objective.registered_name!r}"
        if objective.loss == "cross_entropy" and (teacher.prediction not in LOGITS or recipe.guidance.is_used):
            lacking = "is guided" if recipe.guidance.is_used else f"puts out {teacher.prediction}"
            raise UserError(
                f"{name} with loss=cross_entropy compares distributions over tokens, and this teacher {lacking}; "
                "set objective.loss=squared"
            )
        if objective.has_diagonal and recipe.batch_size < 2:
            raise UserError(f"{name} teaches its diagonal with half of a batch; set batch_size to 2 or more")


def check_steps(recipe: Recipe, teacher: Architecture) -> None:
    """No more steps than the schedule has."""
    wanted = {"evaluation.steps": recipe.evaluation.steps}
    for number in range(len(recipe.stages)):
        wanted[f"steps of the objective of stage {number}"] = getattr(recipe.stage(number).objective, "steps", None)
    wanted["anchor.steps"] = getattr(recipe.anchor, "steps", None)
    most = getattr(teacher.process.noise_schedule, "steps", None)
    for name, steps in wanted.items():
        if steps is not None and most is not None and steps > most:
            raise UserError(f"{name}: {steps} is more than the {most} steps the teacher was trained with")


def check_time(recipe: Recipe, teacher: Architecture) -> None:
    """The student is asked at a time that the teacher was trained at."""
    lowest, t_init = teacher.process.noise_schedule.t_min, recipe.t_init
    if t_init < lowest:
        raise UserError(f"t_init: {t_init:g} is below {lowest:g}, the lowest time the teacher was trained at; raise it")
    samplers = {f"time_sampler of stage {k}": recipe.stage(k).time_sampler for k in range(len(recipe.stages))}
    for name, sampler in samplers.items():
        highest = getattr(sampler, "t_max", 1.0)
        if highest < lowest:
            raise UserError(
                f"{name}: t_max={highest:g} is below {lowest:g}, the lowest time the teacher was trained at; raise it"
            )
    if recipe.student_kind(0) != "same":
        return
    last = Renoise(steps=recipe.generator_steps, t_init=t_init).times[-1]
    if last < lowest:
        raise UserError(
            f"generator_steps: the last of {recipe.generator_steps} steps is at time {last:g}, below {lowest:g}, the "
            "lowest the teacher was trained at; take fewer"
        )


def check_guidance(recipe: Recipe, teacher: Architecture) -> None:
    """A teacher that never lost its sources cannot say what it would without, nor one that never had any, with."""
    if recipe.guidance.is_used and not teacher.is_conditional:
        raise UserError(
            "guidance: the teacher writes without a source, so there is none to be led by; leave guidance out"
        )
    if recipe.guidance.is_used and not teacher.condition_dropout:
        raise UserError(
            "guidance: the teacher was never trained without its sources; train one with fit.condition_dropout=0.1, or "
            "leave guidance out"
        )


def check_layer(recipe: Recipe, teacher: Architecture) -> None:
    """The adversary reads layers that there are."""
    layers, taps = getattr(teacher.backbone, "layers", None), getattr(recipe.adv, "taps", ())
    for tap in taps:
        if layers is not None and not -layers <= tap < layers:
            raise UserError(f"adv.taps: the teacher has no layer {tap}; choose from {-layers} to {layers - 1}")


def check_memory(recipe: Recipe, teacher: Architecture, device: torch.device) -> None:
    """The device can hold the teacher's samples of each stage, the objective's or the anchor's, never both."""
    memory = total_memory(device)
    wanted = {f"pairs of the objective of stage {k}": recipe.stage(k).objective for k in range(len(recipe.stages))}
    for name, objective in {**wanted, "anchor.pairs": recipe.anchor}.items():
        if memory is None or objective is None or not objective.needs.regression:
            continue
        pairs: int = objective.pairs  # type: ignore[attr-defined]  # promised by needs.data
        needed = TeacherSamples.bytes(pairs, teacher.seq_len, teacher.space.width(teacher.vocab_size))  # type: ignore[attr-defined]
        if needed > memory:
            raise UserError(
                f"{name}: {pairs} teacher samples take {needed / 2**30:.1f} GiB, and {device} has "
                f"{memory / 2**30:.1f} GiB; take fewer"
            )
