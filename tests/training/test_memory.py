"""How much memory there is."""

import os
import sys

import pytest
import torch

from dlkit.training.memory import hand_back_freed_memory, keep_freed_memory, total_memory


def test_the_memory_of_the_machine() -> None:
    found = total_memory(torch.device("cpu"))
    assert found is not None
    assert 2**27 < found < 2**50


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert total_memory(torch.device("cpu")) is None


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_or_handed_back() -> None:
    try:
        if not keep_freed_memory():
            pytest.skip("another C library")
        before = resident()
        torch.zeros(2**26).add_(1)  # 256 MB, freed at once
        assert resident() - before > 2**27
        assert hand_back_freed_memory()
        assert resident() - before < 2**26
        torch.zeros(2**26).add_(1)
        assert resident() - before < 2**26
        assert keep_freed_memory()
        torch.zeros(2**26).add_(1)
        assert hand_back_freed_memory(now=False)
        assert resident() - before > 2**27
    finally:
        hand_back_freed_memory()
