"""Settings that put another objective beside the Recipe's: an adversary, an anchor."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from dlkit import objectives
from dlkit.errors import UserError
from dlkit.objectives._base import Objective
from dlkit.part import from_spec


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
