"""The contract of each kind of part, as tests for built-in parts and for those of plugins alike.

    from dlkit.testing import check_part, checks

    check_part("objectives", "my_objective")                       # all of it: an AssertionError names what is wrong

    @pytest.mark.parametrize("check", checks("objectives", "my_objective"))
    def test_contract(check):                                       # one test for each promise
        check()

The promises of a kind are the functions of ``dlkit.testing.<kind>``, and those of every kind are in
``dlkit.testing._every``.
"""

import importlib
import unittest
from types import ModuleType
from typing import Any

from dlkit.errors import UserError
from dlkit.registry import KINDS
from dlkit.testing import _every
from dlkit.testing._promise import Check, Promise

__all__ = ["Check", "check_part", "checks"]


def checks(kind: str, name: str, **settings: Any) -> list[Check]:
    """The checks of one part, to be called one by one. The part itself is not looked up before.

    Args:
        kind: such as "objectives".
        name: the part's.
        settings: in place of the part's defaults and of its ``trial``.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in KINDS:
        raise UserError(f"there is no kind {kind!r}; known: {', '.join(KINDS)}")
    registry = importlib.import_module(KINDS[kind]).registry
    promises = _promises(_every) + _promises(importlib.import_module(f"{__name__}.{kind}"))
    return [Check(registry, name, promise, settings) for promise in promises]


def check_part(kind: str, name: str, *, slow: bool = True, **settings: Any) -> None:
    """Run all checks of one part; see :func:`checks`. Without a C++ compiler those that compile are left out.

    Args:
        slow: False leaves out those that train for some steps or compile.

    Raises:
        AssertionError: one line for each promise that the part breaks.
    """
    complaints = []
    for check in checks(kind, name, **settings):
        if check.slow and not slow:
            continue
        try:
            check()
        except unittest.SkipTest:
            continue
        except AssertionError as error:
            complaints.append(str(error))
    if complaints:
        raise AssertionError("\n".join(dict.fromkeys(complaints)))


def _promises(module: ModuleType) -> list[Promise]:
    return [value for value in vars(module).values() if isinstance(value, Promise)]
