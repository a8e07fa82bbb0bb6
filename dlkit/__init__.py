"""dlkit: distil a continuous diffusion language model into a generator that writes a text in one network call.

Names are loaded when they are first used: ``import dlkit`` costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    **{kind: kind for kind in ("backbones", "decoders", "discriminators", "metrics", "objectives", "recipes")},
    **{kind: kind for kind in ("samplers", "schedules", "spaces", "teachers")},
    "processes": "diffusion.processes",
    "time_samplers": "diffusion.time_samplers",
}
_NAMES = {
    "Recipe": "recipe",
    "UserError": "errors",
    "Teacher": "generator",
    "OneStepGenerator": "generator",
    "load_teacher": "generator",
    "load_student": "generator",
    "import_teacher": "exchange",
    "export_teacher": "exchange",
    "distill": "training.distill",
    "fit": "training.fit",
    "evaluate": "evaluation.evaluate",
}
__all__ = ["__version__", *_NAMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"dlkit.{_ROOMS[name]}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"dlkit.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'dlkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
