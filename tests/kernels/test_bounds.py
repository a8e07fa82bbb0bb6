"""Bounds by bytes hold, and are near enough to rule tiles out."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlkit.kernels import best_token as module
from dlkit.kernels._bounds import COLUMNS, WIDEST, highest_between, in_bytes, multiplies_bytes
from dlkit.kernels.best_token import best_token
from live_memory import LiveMemory

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this CPU has no fast products of bytes")

few = settings(max_examples=60)


def highest(x: Tensor, table: Tensor, bias: Tensor, tokens: int) -> Tensor:
    scores = x.double() @ table.double().T + bias.double()
    return torch.stack([part.amax(1) for part in scores.split(tokens, 1)])


def largest(of: Tensor) -> float:
    return float(of.abs().max())


@few
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 40), st.integers(1, 50)),
    st.integers(0, 10**6),
    st.tuples(st.floats(-44, 9), st.floats(-44, 9), *[st.floats(-8, 8)] * 3, st.floats(-20, 15)),
    st.tuples(st.integers(1, 40), st.integers(1, 50)),
)
def test_the_highest_score_is_between_its_bounds(
    sizes: tuple[int, int, int], seed: int, powers: tuple[float, ...], tile: tuple[int, int]
) -> None:
    """Whatever the sizes of states, table and bias are to each other, and however far the table and the bias from zero.

    Where all is tiny, float32's own least number is let pass.
    """
    n, v, d = sizes
    generator = torch.Generator().manual_seed(seed)
    x, table, bias = (torch.randn(shape, generator=generator) for shape in ((n, d), (v, d), (v,)))
    size, scale, far, wide, unlike, off = (10.0**power for power in powers)
    x = x * size * unlike ** torch.rand(n, 1, generator=generator)
    table = (table + far * torch.randn(d, generator=generator)) * scale
    bias = bias * wide + off
    rows, tokens = tile
    between, scores = highest_between(x, table, bias, rows, tokens), highest(x, table, bias, tokens)
    if between is None:  # some number has no float32
        assert largest(x) < 1e-25 * max(1.0, largest(bias)) or largest(x) * (largest(table) + largest(bias)) > 1e30
    else:
        low, high = between
        assert (high - scores >= -1e-40).all()
        assert (scores - low >= -1e-40).all()


def test_they_rule_out_nearly_all_tiles_of_a_table_of_normal_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    x, table = torch.randn(200, 64, generator=generator), torch.randn(4096, 64, generator=generator)
    bias = table.square().sum(1) / -2
    between, scores = highest_between(x, table, bias, 64, 128), highest(x, table, bias, 128)
    assert between is not None
    low, high = between
    assert (high >= scores.amax(0)).sum(0).float().mean() < 0.15 * len(scores)
    assert (high - low).amax() < (x @ table.T + bias).std()


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
    assert highest_between(*given_.values(), 2, 2) is None


def test_states_of_zeros_have_none() -> None:
    assert highest_between(torch.zeros(3, 4), torch.ones(5, 4), torch.ones(5), 2, 2) is None


def test_sums_of_bytes_fit() -> None:
    assert 127**2 * (WIDEST + COLUMNS) < 2**31
    between = highest_between(torch.ones(1, WIDEST), torch.ones(2, WIDEST), torch.zeros(2), 1, 1)
    assert between is not None
    torch.testing.assert_close(between[0], torch.full((2, 1), float(WIDEST)), rtol=1e-3, atol=0.0)


@pytest.fixture
def bytes_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little there is to do, and however little is ruled out."""
    for name, value in {"LARGE": 0, "ENOUGH": 0, "NARROW": 0, "TILES": 0, "OTHERS": 1}.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("bytes_always")
@few
@given(st.integers(0, 10**6), st.floats(-30, 9), st.floats(-8, 8), st.sampled_from([64, 1000]))
def test_the_best_is_found_wherever_it_is(seed: int, power: float, wide: float, elements: int) -> None:
    """Often not in the tile that was looked through first."""
    generator = torch.Generator().manual_seed(seed)
    x, table, bias = (torch.randn(shape, generator=generator) for shape in ((20, 32), (400, 32), (400,)))
    x, bias = x * 10**power, bias * 10 ** (power + wide)
    scores = x.double() @ table.double().T + bias.double()
    found = scores.gather(1, best_token(x, table, bias, elements=elements)[:, None])[:, 0]
    assert (scores.amax(1) - found <= 1e-5 * scores.abs().amax(1)).all()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the states that were searched tile by tile, without bounds."""
    sizes: list[int] = []
    search = module._best_by_tiles
    monkeypatch.setattr(module, "_best_by_tiles", lambda x, *given: sizes.append(len(x)) or search(x, *given))
    for name, value in {"LARGE": 0, "ENOUGH": 1000, "NARROW": 32}.items():
        monkeypatch.setattr(module, name, value)
    return sizes


def odd_row(x: Tensor, table: Tensor, bias: Tensor) -> None:
    table[3] *= 100


def odd_bias(x: Tensor, table: Tensor, bias: Tensor) -> None:
    bias[3] = -1e9


def odd_state(x: Tensor, table: Tensor, bias: Tensor) -> None:
    x[3] *= 1e6


def zeros(x: Tensor, table: Tensor, bias: Tensor) -> None:
    table[600:1800], table[-1], x[7] = 0.0, 0.0, 0.0
    bias.zero_()


def far(x: Tensor, table: Tensor, bias: Tensor) -> None:
    table += 100


def alike(x: Tensor, table: Tensor, bias: Tensor) -> None:
    table.copy_(table[:1].clone())
    bias.zero_()


@pytest.mark.parametrize(
    ("how", "bounded"), [(odd_row, 1), (odd_bias, 1), (odd_state, 1), (zeros, 1), (far, 0), (alike, 0)]
)
def test_what_is_odd_spoils_no_bounds_but_its_own(plain: list[int], how: Callable[..., None], bounded: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, table, bias = (torch.randn(shape, generator=generator) for shape in ((1100, 32), (16_500, 32), (16_500,)))
    how(x, table, bias)
    chosen = best_token(x, table, bias, elements=1 << 19)
    assert plain == ([] if bounded else [1100])
    scores = x @ table.T + bias
    found = scores.gather(1, chosen[:, None])[:, 0]
    assert (scores.amax(1) - found <= 1e-5 * scores.abs().amax(1)).all()


def test_states_are_bounded_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LARGE": 0, "ENOUGH": 0, "NARROW": 0, "TILES": 0, "BLOCK": 7}.items():
        monkeypatch.setattr(module, name, value)
    generator = torch.Generator().manual_seed(0)
    x, table, bias = (torch.randn(shape, generator=generator) for shape in ((30, 8), (60, 8), (60,)))
    with LiveMemory() as memory:
        chosen = best_token(x, table, bias, elements=60)
    assert torch.equal(chosen, (x @ table.T + bias).argmax(1))
    assert memory.largest <= 60 * (8 + 4)


def test_they_are_taken_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "highest_between", lambda *given: calls.append(given) or highest_between(*given))
    for name, value in {"LARGE": 0, "ENOUGH": 20, "NARROW": 8}.items():
        monkeypatch.setattr(module, name, value)
    generator = torch.Generator().manual_seed(0)
    x, table, bias = (torch.randn(shape, generator=generator) for shape in ((50, 8), (6400, 8), (6400,)))
    wanted = (x @ table.T + bias).argmax(1)
    for given_, taken in [((x, table, bias), 1), ((x[:20], table, bias), 0), ((x.double(), table, bias), 0)]:
        calls.clear()
        assert torch.equal(best_token(*given_, elements=400), wanted[: len(given_[0])])
        assert len(calls) == taken
    calls.clear()
    monkeypatch.setattr(module, "NARROW", 9)
    assert torch.equal(best_token(x, table, bias, elements=400), wanted)
    assert not calls


def test_they_are_not_taken_where_pytorch_multiplies_bytes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert multiplies_bytes()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not torch._C._get_mkldnn_enabled()
    assert not multiplies_bytes()


def test_they_are_not_taken_where_products_of_bytes_are_wrong() -> None:
    """As with oneDNN held below VNNI, which has to be said before a process begins."""
    asked = "from dlkit.kernels._bounds import multiplies_bytes; print(multiplies_bytes())"
    for isa, takes in [("AVX2", "False"), ("AVX512_CORE_VNNI", "True")]:
        environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa}
        told = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True)
        assert (told.returncode, told.stdout.strip()) == (0, takes)
