"""The update plan in words: who steps when, on which samples, at what rate."""

from typing import Any

from dlkit.recipe import PLANS, Guidance, Optimizer, Recipe, UpdatePlan
from dlkit.samplers.renoise import Renoise


def describe(recipe: Recipe, number: int) -> list[str]:
    """What happens in stage ``number`` (from 0), a line for each question that one may ask."""
    stage, rates = recipe.stage(number), []
    objective, times = stage.objective, stage.time_sampler
    assert objective is not None
    assert times is not None
    learns = recipe.has_critic(number)
    matched = "adv alone" if objective.is_adversary else shown(objective.spec())
    head = (
        f"stage {number + 1} of {len(recipe.stages)}: {stage.steps} generator updates of {recipe.batch_size} samples "
        f"with {matched}"
    )
    rates.append(f"generator {_rate(recipe.generator, stage.lr_generator)}")
    student = _line("student", _student(recipe))
    guidance = [_line("guidance", _guidance(recipe.guidance, learns))] if recipe.guidance.is_used else []
    if recipe.is_regression(number):
        return [f"{head}; no critic", student, _line("rates", rates[0]), *guidance]
    if recipe.is_trajectory(number):
        states = _line("learns at", "real text, noised to where jumps begin")
        return [f"{head}; no critic", student, states, _line("rates", rates[0]), *guidance]
    anchor = [] if recipe.anchor is None else [_line("anchor", shown(recipe.anchor.spec()))]
    noised = _line("noised at", shown(times.spec()))
    if not learns:
        return [f"{head}; no critic", *anchor, student, noised, _line("rates", rates[0]), *guidance]
    rates.append(f"critic {_rate(recipe.critic, stage.lr_critic)}")
    return [
        head,
        _line("adversary", "none" if recipe.adv is None else shown(recipe.adv.spec())),
        *anchor,
        _line("plan", _plan(recipe.plan, stage.critic_warmup)),
        student,
        noised,
        _line("rates", ", ".join(rates)),
        *guidance,
    ]


def shown(spec: Any) -> str:
    """Settings as a call: ``sid(mu=1.2, weight=l1)``; what is None is left out."""
    if isinstance(spec, dict):
        settings = [f"{key}={shown(value)}" for key, value in spec.items() if key != "name" and value is not None]
        return spec.get("name", "") + (f"({', '.join(settings)})" if settings else "")
    if isinstance(spec, list):
        return f"[{', '.join(map(shown, spec))}]"
    return str(spec).lower() if isinstance(spec, bool) else str(spec)


def _line(what: str, text: str) -> str:
    return f"  {what + ':':<11}{text}"


def _plan(plan: UpdatePlan, warmup: int) -> str:
    """The name if it is a published one, and what a turn is."""
    count = plan.critic_steps_per_generator_step
    named = [name for name, settings in PLANS.items() if UpdatePlan(**settings) == plan]
    turn = f"{count} critic update{'s' * (count > 1)} on fresh samples, then the generator on "
    turn += "those of the last" if plan.share_samples else "fresh ones"
    turn += ", from the same predictions" if plan.share_predictions else ""
    first = f"{warmup} critic updates first; " if warmup else ""
    return first + turn + (f" ({named[0]})" if named else "")


def _student(recipe: Recipe) -> str:
    """Where it is asked."""
    if recipe.student_kind(0) != "same":
        return (
            f"two times, jumps of any length; {recipe.generator_steps} from noise to text unless it is asked otherwise"
        )
    grid = Renoise(steps=recipe.generator_steps, t_init=recipe.t_init).times
    if len(grid) == 1:
        noise = "noise" if recipe.codes is None else f"one of {recipe.codes} noises"
        return f"1 step, from {noise} at t = {grid[0]:g}"
    if recipe.is_trajectory(0):
        return f"{len(grid)} steps at t = {', '.join(f'{t:.4g}' for t in grid)}, or any others"
    came = {"noised_data": "noised real text", "backward_simulation": "its own noised text of the step before"}
    return (
        f"{len(grid)} steps at t = {', '.join(f'{t:.4g}' for t in grid)}, each sample at one of them; from noise at "
        f"the first, from {came[recipe.generator_input]} at the others"
    )


def _rate(optimizer: Optimizer, lr: float | None) -> str:
    assert lr is not None  # a stage has nothing left open
    return f"{lr:g}" + (f" falling to {lr * optimizer.end:g}" if optimizer.decay == "linear" else "")


def _guidance(guidance: Guidance, learns: bool) -> str:
    if not learns:
        return f"teacher {guidance.teacher:g}"
    dropped = f", without source {guidance.condition_dropout:.0%}" if guidance.condition_dropout else ""
    return (
        f"teacher {guidance.teacher:g}, fake score {guidance.fake_score:g}; the critic learns with "
        f"{guidance.critic:g}{dropped}"
    )
