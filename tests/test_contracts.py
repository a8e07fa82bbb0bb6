"""Every registered part keeps the contract of its kind."""

import importlib
from typing import Any

import pytest

from dlkit.registry import KINDS
from dlkit.testing import Check, checks

pytestmark = pytest.mark.contract


def built_in() -> list[Any]:
    return [
        pytest.param(check, id=f"{kind}-{name}-{check.__name__}", marks=marks(check))
        for kind, package in KINDS.items()
        for name in importlib.import_module(package).registry.files()
        for check in checks(kind, name)
    ]


def marks(check: Check) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] * check.slow + [pytest.mark.compile] * check.compiles


@pytest.mark.parametrize("check", built_in())
def test_contract(check: Check) -> None:
    check()
