"""Which settings of a Recipe go together."""

from typing import TYPE_CHECKING

from dlkit.objectives._base import Objective
from dlkit.recipe.settings import Guidance

if TYPE_CHECKING:
    from dlkit.recipe.recipe import Recipe


def agree(recipe: "Recipe") -> None:
    """Refuse settings that are right each for itself but not together.

    Raises:
        ValueError: the first of them, and what to set instead.
    """
    only_a_fit_weights_times(recipe)
    trajectories_are_alone(recipe)
    every_step_is_taught(recipe)
    for objective in recipe.all_objectives:
        discriminator_serves(objective, recipe)
    settings_of_a_critic_have_one(recipe)
    something_is_beside_a_regression(recipe)
    a_source_is_there_to_drop(recipe)


def only_a_fit_weights_times(recipe: "Recipe") -> None:
    for sampler in (recipe.time_sampler, *(stage.time_sampler for stage in recipe.stages)):
        if sampler is not None and sampler.weighted:  # type: ignore[attr-defined]
            name = sampler.registered_name
            raise ValueError(f"time_sampler {name!r} weights losses, which only a fit does; set fit.time_sampler")


def trajectories_are_alone(recipe: "Recipe") -> None:
    """Refuse what stands beside an objective of trajectories, and stages whose students differ in kind."""
    stages = range(len(recipe.stages))
    kinds = {recipe.student_kind(number): recipe.objective_of(number).registered_name for number in stages}
    if len(kinds) > 1:
        names = " and ".join(map(repr, kinds.values()))
        raise ValueError(f"objectives {names} make different kinds of student; give each a run of its own")
    if not recipe.only_trajectories:
        return
    name = f"objective {recipe.objective_of(0).registered_name!r}"
    for setting in ("adv", "anchor", "codes"):
        if getattr(recipe, setting) is not None:
            raise ValueError(f"{setting}: {name} learns from noised real text alone; set {setting}=null")
    if recipe.generator_input != "noise":
        raise ValueError(f"generator_input={recipe.generator_input}: {name} teaches every step at once; set noise")


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


def settings_of_a_critic_have_one(recipe: "Recipe") -> None:
    learns = [recipe.has_critic(number) for number in range(len(recipe.stages))]
    for number, stage in enumerate(recipe.stages):
        if stage.critic_warmup and not learns[number]:
            name = recipe.objective_of(number).registered_name
            raise ValueError(
                f"stages.{number}.critic_warmup={stage.critic_warmup}: with objective {name!r} no critic learns in "
                f"this stage; set stages.{number}.critic_warmup=0"
            )
    given, plain = recipe.guidance, Guidance(teacher=recipe.guidance.teacher)
    names = [name for name in Guidance.model_fields if getattr(given, name) != getattr(plain, name)]
    if names and not any(learns):
        unused = ", ".join(f"guidance.{name}={getattr(given, name):g}" for name in names)
        raise ValueError(f"{unused}: no critic learns in any stage; set guidance={{teacher: {given.teacher:g}}}")


def something_is_beside_a_regression(recipe: "Recipe") -> None:
    if all(recipe.stands_alone(number) for number in range(len(recipe.stages))):
        for name in ("adv", "anchor"):
            if getattr(recipe, name) is not None:
                raise ValueError(
                    f"{name} stands beside an objective that is no regression to the teacher's samples, "
                    f"but every stage is one; set {name}=false"
                )


def a_source_is_there_to_drop(recipe: "Recipe") -> None:
    if recipe.model.layout != "pairs" and recipe.fit.condition_dropout:
        raise ValueError(
            f"fit.condition_dropout={recipe.fit.condition_dropout:g}: texts of model.layout={recipe.model.layout} have "
            "no source to drop; set fit.condition_dropout=0"
        )
