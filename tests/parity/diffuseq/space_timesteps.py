"""Which steps a respacing string keeps, and which strings are refused."""

import pytest

from dlkit.errors import UserError
from dlkit.schedules._respacing import space_timesteps
from parity.cases import Case


def check(case: Case) -> None:
    recorded = case.json("cases")
    assert recorded
    for each in recorded:
        if "error" in each:
            with pytest.raises(UserError):
                space_timesteps(each["T"], each["spec"])
        else:
            assert space_timesteps(each["T"], each["spec"]) == each["steps"], each["spec"]
