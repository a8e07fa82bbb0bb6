"""How much memory there is."""

import os

import pytest
import torch

from dlkit.training.memory import total_memory


def test_the_memory_of_the_machine() -> None:
    found = total_memory(torch.device("cpu"))
    assert found is not None
    assert 2**27 < found < 2**50


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert total_memory(torch.device("cpu")) is None
