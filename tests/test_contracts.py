"""Every registered part keeps the contract of its kind."""

import importlib
from typing import Any

import pytest

from dlkit import objectives
from dlkit.registry import KINDS
from dlkit.testing import Check, checks
from dlkit.testing.objectives import STEPS

pytestmark = pytest.mark.contract


def registered() -> list[Any]:
    """Those of installed plugins too; one that cannot be loaded fails, and is named."""
    return [
        pytest.param(check, id=f"{kind}-{name}-{check.__name__}", marks=marks(check))
        for kind, package in KINDS.items()
        for name in importlib.import_module(package).registry.names()
        for check in checks(kind, name)
    ]


def marks(check: Check) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] * check.slow + [pytest.mark.compile] * check.compiles


@pytest.mark.parametrize("check", registered())
def test_contract(check: Check) -> None:
    check()


def test_every_objective_runs_through_a_recipe() -> None:
    """``pytest -m contract`` distils 50 steps on the built-in corpus with each."""
    runs = {value.values[0].name for value in registered() if value.values[0].__name__ == "distils"}
    assert runs == set(objectives.names())
    assert STEPS == 50
