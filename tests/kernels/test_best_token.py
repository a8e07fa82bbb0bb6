"""The best row by brute force, and a bound on what is held."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.kernels.best_token import best_token
from live_memory import LiveMemory

few = settings(max_examples=40)


@few
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 8), st.integers(0, 10**6), st.integers(1, 2000))
def test_equals_brute_force(n: int, v: int, d: int, seed: int, elements: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, table, bias = (torch.randn(*shape, generator=generator) for shape in ((n, d), (v, d), (v,)))
    scores = x.double() @ table.double().T + bias.double()
    chosen = best_token(x, table, bias, elements=elements)
    assert torch.allclose(scores.gather(1, chosen[:, None])[:, 0], scores.amax(1), atol=1e-5)


@few
@given(st.integers(1, 60), st.integers(1, 50), st.integers(1, 500))
def test_holds_no_more_scores_than_asked(n: int, v: int, elements: int) -> None:
    x, table, bias = torch.zeros(n, 1), torch.zeros(v, 1), torch.zeros(v)
    with LiveMemory() as memory:
        best_token(x, table, bias, elements=elements)
    assert memory.largest <= max(elements, v, n)


def test_of_nothing() -> None:
    assert best_token(torch.zeros(0, 3, 2), torch.zeros(5, 2), torch.zeros(5)).shape == (0, 3)


def test_small_inputs_are_not_compared_all_at_once_either(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, addmm = [], torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *args: sizes.append(out := addmm(*args)) or out)
    best_token(torch.randn(3, 4, 2), torch.randn(5, 2), torch.zeros(5))
    assert sum(len(scores) for scores in sizes) == 12
    assert max(len(scores) for scores in sizes) < 12
