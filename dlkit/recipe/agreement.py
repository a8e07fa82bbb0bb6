"""Which settings of a Recipe go together."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from dlkit.diffusion.time_samplers.uniform import UniformTime
from dlkit.objectives._base import Objective
from dlkit.recipe.settings import Spec

if TYPE_CHECKING:
    from dlkit.recipe.recipe import Recipe


def agree(recipe: "Recipe") -> None:
    """Refuse settings that are right each for itself but not together.

    Raises:
        ValueError: the first of them, and what to set instead; of settings that nothing would use all, in one line.
    """
    only_a_fit_weights_times(recipe)
    students_are_of_one_kind(recipe)
    every_step_is_taught(recipe)
    for objective in recipe.all_objectives:
        discriminator_serves(objective, recipe)
    one_prediction_serves_both(recipe)
    compiled_networks_are_called(recipe)
    without_use = (beside_trajectories, of_a_critic, beside_regressions, of_a_source)
    complaints = list(chain.from_iterable(check(recipe) for check in without_use))
    if complaints:
        raise ValueError("; and ".join(complaints))


def only_a_fit_weights_times(recipe: "Recipe") -> None:
    for sampler in (recipe.time_sampler, *(stage.time_sampler for stage in recipe.stages)):
        if sampler is not None and sampler.weighted:  # type: ignore[attr-defined]
            name = sampler.registered_name
            raise ValueError(f"time_sampler {name!r} weights losses, which only a fit does; set fit.time_sampler")


def students_are_of_one_kind(recipe: "Recipe") -> None:
    stages = range(len(recipe.stages))
    kinds = {recipe.student_kind(number): recipe.objective_of(number).registered_name for number in stages}
    if len(kinds) > 1:
        names = " and ".join(map(repr, kinds.values()))
        raise ValueError(f"objectives {names} make different kinds of student; give each a run of its own")


def one_prediction_serves_both(recipe: "Recipe") -> None:
    """Refuse shared predictions where the two turns ask for different ones, or where their graph is not kept."""
    if not recipe.plan.share_predictions:
        return
    guidance = recipe.guidance
    if guidance.critic != guidance.fake_score or guidance.condition_dropout:
        raise ValueError(
            "plan.share_predictions: the critic's turn and the generator's ask the fake score differently; set "
            "guidance.critic as guidance.fake_score and guidance.condition_dropout=0, or plan.share_predictions=false"
        )
    if recipe.run.memory != "fast":
        raise ValueError(
            f"run.memory={recipe.run.memory}: plan.share_predictions goes back through one graph twice, which must "
            "be kept; set run.memory=fast or plan.share_predictions=false"
        )


def compiled_networks_are_called(recipe: "Recipe") -> None:
    if recipe.run.compile == "networks" and recipe.only_trajectories:
        raise ValueError(
            "run.compile=networks: flow maps differentiate their networks in forward mode, which compiled ones do not "
            "take; set run.compile=kernels"
        )


def every_step_is_taught(recipe: "Recipe") -> None:
    if recipe.only_trajectories:
        return
    if recipe.generator_steps == 1:
        if recipe.generator_input != "noise":
            raise ValueError(
                f"generator_input={recipe.generator_input}: a student of one step has no later ones; "
                "set generator_input=noise or more generator_steps"
            )
        return
    if recipe.generator_input == "noise":
        raise ValueError(
            f"generator_steps={recipe.generator_steps}: from noise only the first step learns; "
            "set generator_input=backward_simulation or noised_data"
        )
    if recipe.codes is not None:
        raise ValueError(f"codes={recipe.codes} are noise of a single step; set codes=null or generator_steps=1")
    for objective in recipe.all_objectives:
        if objective.asks_origin:
            name = objective.registered_name
            raise ValueError(f"objective {name!r} asks for the noise of a single step; set generator_steps=1")


def discriminator_serves(objective: Objective, recipe: "Recipe") -> None:
    """Refuse an objective that ``adv`` does not give the discriminator it needs."""
    name, adv = f"objective {objective.registered_name!r}", recipe.adv
    if "discriminator" in objective.needs.roles and adv is None:
        raise ValueError(f"{name} needs a discriminator; set adv=true")
    if objective.needs.log_ratio and not getattr(adv, "logit_is_log_ratio", False):
        raise ValueError(f"{name} needs a discriminator whose logit is a log-ratio; set adv.loss=non_saturating")
    if objective.is_adversary and objective not in (adv, type(objective)()):
        raise ValueError(f"{name} is adv without anything beside it; give its settings to adv")


def beside_trajectories(recipe: "Recipe") -> Iterator[str]:
    """What nothing uses where the student learns trajectories alone."""
    if not recipe.only_trajectories:
        return
    name = f"objective {recipe.objective_of(0).registered_name!r}"
    for setting in ("adv", "anchor", "codes"):
        if getattr(recipe, setting) is not None:
            yield f"{setting}: {name} learns from noised real text alone; set {setting}=null"
    if recipe.generator_input != "noise":
        yield f"generator_input={recipe.generator_input}: {name} teaches every step at once; set generator_input=noise"
    default = type(recipe).model_fields["t_init"].default
    if recipe.student_kind(0) != "same" and recipe.t_init not in (default, 1.0):
        yield f"t_init={recipe.t_init:g}: the student of {name} starts at t = 1; set t_init=1"
    if any(getattr(recipe.objective_of(number), "has_diagonal", False) for number in range(len(recipe.stages))):
        return
    samplers = {f"stages.{number}.time_sampler": stage.time_sampler for number, stage in enumerate(recipe.stages)}
    for at, sampler in {"time_sampler": recipe.time_sampler, **samplers}.items():
        if sampler not in (None, UniformTime()):
            times = json.dumps(sampler.spec())  # type: ignore[attr-defined, union-attr]
            yield f"{at}={times}: {name} has times of its own; set {at}=uniform"


def of_a_critic(recipe: "Recipe") -> Iterator[str]:
    """What only a critic uses, where none learns."""
    learns = [recipe.has_critic(number) for number in range(len(recipe.stages))]
    for number, stage in enumerate(recipe.stages):
        if stage.critic_warmup and not learns[number]:
            name = recipe.objective_of(number).registered_name
            yield (
                f"stages.{number}.critic_warmup={stage.critic_warmup}: with objective {name!r} no critic learns in "
                f"this stage; set stages.{number}.critic_warmup=0"
            )
    if any(learns):
        return
    anchored = recipe.anchor is not None and not recipe.only_stand_alone
    used = ("a_sd", "c_anchor") if anchored else ("a_sd",)
    found = [
        unused("guidance", recipe.guidance, ("teacher",)),
        unused("critic", recipe.critic),
        unused("plan", recipe.plan),
        unused("weights", recipe.weights, used),
    ]
    for number, stage in enumerate(recipe.stages):
        at = f"stages.{number}"
        if stage.weights is not None:
            found.append(unused(f"{at}.weights", stage.weights, used))
        if stage.lr_critic is not None:
            found.append(([f"{at}.lr_critic={stage.lr_critic:g}"], f"{at}.lr_critic=null"))
    names, resets = [name for given, _ in found for name in given], [reset for given, reset in found if given]
    if names:
        yield f"{', '.join(names)}: no critic learns in any stage; set {', '.join(resets)}"


def unused(at: str, given: Spec, used: tuple[str, ...] = ()) -> tuple[list[str], str]:
    """Settings of a group that are not at their defaults though only ``used`` ones matter, and what resets them."""
    plain = type(given)()
    others = [name for name in type(given).model_fields if name not in used]
    names = [f"{at}.{name}={shown(getattr(given, name))}" for name in others if differ(given, plain, name)]
    kept = [f"{name}: {shown(getattr(given, name))}" for name in used if differ(given, plain, name)]
    return names, f"{at}={{{', '.join(kept)}}}"


def differ(first: Spec, second: Spec, name: str) -> bool:
    return getattr(first, name) != getattr(second, name)


def shown(value: Any) -> str:
    """A setting as it may be given, whole numbers without a fraction."""
    return json.dumps(value).removesuffix(".0")


def beside_regressions(recipe: "Recipe") -> Iterator[str]:
    """What stands beside an objective, where there is none but regressions."""
    if recipe.only_stand_alone and not recipe.only_trajectories:
        for name in ("adv", "anchor"):
            if getattr(recipe, name) is not None:
                yield (
                    f"{name} stands beside an objective that is no regression to the teacher's samples, "
                    f"but every stage is one; set {name}=false"
                )


def of_a_source(recipe: "Recipe") -> Iterator[str]:
    """What texts without a source cannot lose."""
    if recipe.model.layout != "pairs" and recipe.fit.condition_dropout:
        yield (
            f"fit.condition_dropout={recipe.fit.condition_dropout:g}: texts of model.layout={recipe.model.layout} have "
            "no source to drop; set fit.condition_dropout=0"
        )
