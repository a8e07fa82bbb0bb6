"""The best row by brute force, and a bound on what is held."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.kernels import best_token as module
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


def test_small_inputs_are_not_compared_all_at_once_either() -> None:
    x, table, bias = torch.randn(3, 4, 2), torch.randn(5, 2), torch.zeros(5)
    with LiveMemory() as memory:
        best_token(x, table, bias)
    assert memory.largest < 12 * 5


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search is one that looks for the place of the highest score afterwards."""
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "MANY", 0)


@few
@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(0, 10**6),
    st.integers(1, 200),
    st.sampled_from([(10**6, 10**6), (0, 10**6), (0, 0)]),
    st.sampled_from((0, 0.25, 1)),
)
def test_looking_for_the_place_afterwards_changes_nothing(
    n: int, v: int, seed: int, elements: int, least: tuple[int, int], others: float
) -> None:
    """Small whole numbers, whose sums are exact, with many ties: the first of equals, whichever way they are found."""
    generator = torch.Generator().manual_seed(seed)
    x, table, bias = (torch.randint(-2, 3, shape, generator=generator).float() for shape in ((n, 2), (v, 2), (v,)))
    wanted = (x @ table.T + bias).argmax(1)
    assert torch.equal(best_token(x, table, bias, elements=elements), wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGE", 0)
        for name, value in zip(("MANY", "ENOUGH", "TILES", "OTHERS"), (*least, 0, others), strict=True):
            patch.setattr(module, name, value)
        assert torch.equal(best_token(x, table, bias, elements=elements), wanted)


@pytest.mark.usefixtures("large")
def test_then_no_more_is_held_either() -> None:
    x, table, bias = torch.zeros(45, 1), torch.zeros(50, 1), torch.zeros(50)
    with LiveMemory() as memory:
        assert not best_token(x, table, bias, elements=100).any()
    assert memory.largest <= 100


def test_a_state_that_is_not_a_number_still_has_a_token() -> None:
    x = torch.tensor([[torch.nan], [torch.inf], [-torch.inf]])
    assert set(best_token(x, torch.tensor([[1.0], [-1.0], [2.0]]), torch.zeros(3)).tolist()) <= {0, 1, 2}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("tiles", [0, 1000])
def test_what_is_not_finite_counts_as_in_the_matrix_of_scores(
    value: float, place: int, tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILES", tiles)
    monkeypatch.setattr(module, "ENOUGH", 0)
    generator = torch.Generator().manual_seed(0)
    given_ = [torch.randn(shape, generator=generator) for shape in ((30, 4), (50, 4), (50,))]
    given_[place].view(-1)[7] = value
    x, table, bias = given_
    scores = x @ table.T + bias
    numbers = ~scores.isnan().any(1)  # the place of what is no number is nobody's business
    chosen = best_token(x, table, bias, elements=60)
    assert torch.equal(chosen[numbers], scores.argmax(1)[numbers])
    assert ((chosen >= 0) & (chosen < 50)).all()


def test_autocast_does_not_coarsen_it() -> None:
    table = torch.tensor([[100.0], [100.1]])
    with torch.autocast("cpu", torch.bfloat16):
        assert best_token(torch.ones(1, 1), table, torch.zeros(2)).tolist() == [1]


@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.usefixtures("large")
def test_it_can_be_a_part_of_a_graph() -> None:
    x, table, bias = torch.randn(9, 4), torch.randn(50, 4), torch.randn(50)
    graph = torch.compile(best_token, fullgraph=True)
    assert torch.equal(graph(x, table, bias, elements=60), best_token(x, table, bias))


@pytest.mark.parametrize("shapes", [((2, 3), (5, 4), (5,)), ((2, 4), (5, 4), (6,)), ((2, 0), (5, 0), (5,))])
def test_what_does_not_fit_together_is_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"are needed, not \[2, \d\], \[5, \d\], \[\d\]"):
        inspect.unwrap(best_token)(*(torch.ones(shape) for shape in shapes))
