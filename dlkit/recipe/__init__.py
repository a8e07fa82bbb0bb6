"""The Recipe, and the groups of settings that it is made of."""

from dlkit.recipe.recipe import Recipe
from dlkit.recipe.settings import (
    PLANS,
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

__all__ = [
    "PLANS",
    "Evaluation",
    "Fit",
    "Guidance",
    "Model",
    "Optimizer",
    "Recipe",
    "Run",
    "Spec",
    "Stage",
    "UpdatePlan",
    "Weights",
]
