"""The nearest row, by brute force."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.kernels.nearest_token import nearest_token

few = settings(max_examples=40)


@few
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 8), st.integers(0, 10**6))
def test_equals_brute_force(n: int, v: int, d: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, table = torch.randn(n, d, generator=generator), 2 * torch.randn(v, d, generator=generator)
    distances = (x[:, None].double() - table.double()).square().sum(-1)
    chosen = nearest_token(x, table)
    best, found = distances.amin(1), distances.gather(1, chosen[:, None])[:, 0]
    assert torch.allclose(found, best, atol=1e-5)  # equal but for rounding of near ties
    clear = distances.sort(1).values
    clear = (clear[:, 1] - clear[:, 0] > 1e-4) if v > 1 else torch.ones(n).bool()
    assert torch.equal(chosen[clear], distances.argmin(1)[clear])


@few
@given(st.integers(1, 25))
def test_chunks_do_not_matter(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, table = torch.randn(2, 10, 4, generator=generator), torch.randn(7, 4, generator=generator)
    chosen = nearest_token(x, table, elements=7 * chunk)
    assert chosen.shape == (2, 10)
    assert torch.equal(chosen, nearest_token(x, table))


def test_the_first_of_equals_wins() -> None:
    table = torch.tensor([[5.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    x = torch.tensor([[0.0, 3.0], [2.0, 0.0], [-2.0, 0.0]])
    assert nearest_token(x, table).tolist() == [1, 1, 2]


def test_half_precision_is_compared_in_float32() -> None:
    table = torch.tensor([[100.0, 0.0], [100.5, 0.0]]).bfloat16()
    assert nearest_token(torch.tensor([[100.4, 0.0]]).bfloat16(), table).tolist() == [1]


@few
@given(st.integers(0, 10**6))
def test_the_cosine_disregards_lengths(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, table = torch.randn(20, 5, generator=generator), torch.randn(12, 5, generator=generator)
    by_x, by_row = (2.0 ** torch.randint(-20, 20, (n, 1), generator=generator) for n in (20, 12))  # exact in floats
    chosen = nearest_token(x, table, metric="cosine")
    assert torch.equal(nearest_token(by_x * x, by_row * table, metric="cosine"), chosen)
    cosines = torch.cosine_similarity(x.double()[:, None], table.double(), dim=-1)
    assert torch.allclose(cosines.gather(1, chosen[:, None])[:, 0], cosines.amax(1), atol=1e-6)


def test_a_row_of_zeros_has_cosine_zero() -> None:
    table = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [0.1, 1.0]])
    assert nearest_token(torch.tensor([[2.0, -1.0], [1.0, 0.0]]), table, metric="cosine").tolist() == [1, 2]


@pytest.mark.parametrize("place", [0, 1])
def test_float64_stays_float64(place: int) -> None:
    """Rows that float32 cannot tell apart."""
    table = torch.tensor([[1.0 + 5e-8 * k] for k in range(2)], dtype=torch.float64)
    assert nearest_token(table[place : place + 1], table).tolist() == [place]


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="metric must be 'l2' or 'cosine', not 'cos'"):
        inspect.unwrap(nearest_token)(torch.ones(1, 2), torch.ones(3, 2), metric="cos")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the table has no rows"):
        nearest_token(torch.ones(1, 2), torch.ones(0, 2))
