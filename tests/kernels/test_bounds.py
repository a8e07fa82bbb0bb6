"""Bounds by bytes hold, and are near enough to rule tiles out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlkit.kernels import best_token as module
from dlkit.kernels._bounds import highest_possible, in_bytes, multiplies_bytes
from dlkit.kernels.best_token import best_token

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this CPU has no fast products of bytes")

few = settings(max_examples=60)


def highest(x: Tensor, table: Tensor, bias: Tensor, tokens: int) -> Tensor:
    scores = x.double() @ table.double().T + bias.double()
    return torch.stack([part.amax(1) for part in scores.split(tokens, 1)])


@few
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 40), st.integers(1, 50)),
    st.integers(0, 10**6),
    st.tuples(*[st.floats(-8, 8)] * 4),
    st.tuples(st.integers(1, 40), st.integers(1, 50)),
)
def test_no_score_exceeds_its_bound(
    sizes: tuple[int, int, int], seed: int, powers: tuple[float, ...], tile: tuple[int, int]
) -> None:
    """Whatever the sizes of states, table and bias are to each other, and however far the table is from zero."""
    n, v, d = sizes
    generator = torch.Generator().manual_seed(seed)
    x, table, bias = (torch.randn(shape, generator=generator) for shape in ((n, d), (v, d), (v,)))
    size, far, wide, unlike = (10.0**power for power in powers)
    x = x * size * unlike ** torch.rand(n, 1, generator=generator)
    table, bias = table + far * torch.randn(d, generator=generator), bias * wide
    rows, tokens = tile
    bounds = highest_possible(x, table, bias, rows, tokens)
    assert bounds is not None
    assert (bounds >= highest(x, table, bias, tokens)).all()


def test_they_rule_out_nearly_all_tiles_of_a_table_of_normal_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    x, table = torch.randn(200, 64, generator=generator), torch.randn(4096, 64, generator=generator)
    bias = table.square().sum(1) / -2
    bounds, scores = highest_possible(x, table, bias, 64, 128), highest(x, table, bias, 128)
    assert bounds is not None
    assert (bounds >= scores.amax(0)).sum(0).float().mean() < 0.15 * len(scores)
    spread = (x @ table.T + bias).std()
    assert (bounds - scores).amax() < 0.5 * spread


@few
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 10**6), st.floats(-10, 10))
def test_bytes_are_as_near_as_they_say(n: int, d: int, seed: int, power: float) -> None:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * 10**power
    found = in_bytes(rows, rows.abs().amax(1, keepdim=True) / 127)
    assert found.codes.abs().amax() <= 127
    torch.testing.assert_close(found.length, rows.norm(dim=1))
    lost = (rows.double() - found.codes * found.scale.double()).norm(dim=1)
    assert ((found.error - lost).abs() <= 1e-6 * found.length).all()
    assert (found.error <= 0.501 * found.scale[:, 0] * d**0.5).all()


@pytest.mark.parametrize("of", ["states", "table", "bias"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_has_none(of: str, value: float) -> None:
    given_ = {"states": torch.ones(3, 4), "table": torch.ones(5, 4), "bias": torch.ones(5)}
    given_[of].view(-1)[2] = value
    assert highest_possible(*given_.values(), 2, 2) is None
    zeros = torch.zeros(3, 4), torch.ones(5, 4), torch.zeros(5)
    assert highest_possible(*zeros, 2, 2) is None  # they have no scale


def test_they_are_taken_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "highest_possible", lambda *given: calls.append(given) or highest_possible(*given))
    monkeypatch.setattr(module, "MANY", 20)
    monkeypatch.setattr(module, "LARGE", 0)
    generator = torch.Generator().manual_seed(0)
    x, table, bias = (torch.randn(shape, generator=generator) for shape in ((50, 8), (6400, 8), (6400,)))
    wanted = (x @ table.T + bias).argmax(1)
    for given_, taken in [((x, table, bias), 1), ((x[:20], table, bias), 0), ((x.double(), table, bias), 0)]:
        calls.clear()
        assert torch.equal(best_token(*given_, elements=400), wanted[: len(given_[0])])
        assert len(calls) == taken
