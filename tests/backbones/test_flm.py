"""FLM's network; ``parity`` holds that it is the original's."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from dlkit.backbones import plaid
from dlkit.backbones.flm import FlmBackbone, FlmSpec, Rotary, attend, turned
from dlkit.errors import UserError
from dlkit.testing._material import begun

V, B, L = 7, 3, 5


def network(**settings: Any) -> FlmBackbone:
    """Float64, with its weights drawn that begin at 0, but for those of the second time."""
    torch.manual_seed(0)
    spec = FlmSpec(**{"layers": 2, "hidden": 8, "heads": 2, "cond": 6, "dropout": 0.0, **settings})
    built = spec.build(V, V)
    if built.two_times:
        last = {name: value.clone() for name, value in built.sigma_map_prime.state_dict().items()}
        begun(built)
        built.sigma_map_prime.load_state_dict(last)
    return begun(built).double().eval() if not built.two_times else built.double().eval()


def states(seed: int = 0) -> Tensor:
    return torch.randn(B, L, V, generator=torch.Generator().manual_seed(seed)).double()


TIMES = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(("tokens", "parameters"), [(30522, 139_292_986), (50258, 169_627_218)])
def test_official_sizes(tokens: int, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in FlmSpec().build(tokens, tokens).parameters()) == parameters


def test_it_begins_with_equal_odds() -> None:
    torch.manual_seed(0)
    fresh = FlmSpec(layers=2, hidden=8, heads=2, cond=6).build(V, V).double()
    assert not fresh(states(), TIMES)[0].any()


def test_tokens_are_one_hot_states() -> None:
    ids = torch.randint(V, (B, L))
    dense = torch.eye(V).double()[ids]
    assert_close(network()(ids, TIMES)[0], network()(dense, TIMES)[0])


def test_a_student_of_two_times_begins_as_its_teacher() -> None:
    """Whatever the second time is; and one time alone is both."""
    teacher, student = network(), network(two_times=True)
    missing, unknown = student.load_state_dict(teacher.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing} == {"sigma_map_prime"}
    assert unknown == []
    wanted = teacher(states(), TIMES)[0]
    for end in (None, TIMES, torch.ones(B).double()):
        assert torch.equal(student(states(), TIMES, end=end)[0], wanted)
    begun(student.sigma_map_prime)
    assert torch.equal(student(states(), TIMES)[0], student(states(), TIMES, end=TIMES)[0])
    assert not torch.allclose(student(states(), TIMES, end=TIMES.flip(0))[0], student(states(), TIMES)[0])


def test_one_time_takes_no_second() -> None:
    with pytest.raises(TypeError, match="takes one time"):
        network()(states(), TIMES, end=TIMES)


@pytest.mark.parametrize("softcap", [50.0, 2.0, None])
def test_it_has_derivatives_in_forward_mode(softcap: float | None) -> None:
    """Along the state and both times, as the distillation of flow maps asks; they are difference quotients."""
    net, direction, h = network(two_times=True, softcap=softcap), states(1), 1e-5
    begun(net.sigma_map_prime)
    inner = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)

    def of(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return net(x, s, end=t)[0]

    ones = torch.ones_like(inner)
    _, slope = torch.func.jvp(of, (states(), inner, inner + 0.1), (direction, ones, -2 * ones))
    ahead, behind = (of(states() + e * direction, inner + e, inner + 0.1 - 2 * e) for e in (h, -h))
    assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-2, atol=1e-3)  # the sinusoids are float32


@given(size=st.floats(0.1, 1e4), seed=st.integers(0, 1000))
def test_capped_attention_never_settles(size: float, seed: int) -> None:
    """No weight is more than exp(2 cap) times another, however large the scores."""
    q, k = (size * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(seed + i)).double() for i in (0, 1))
    weights = attend(q, k, torch.eye(4).double()[None, None], 1.5)[0, 0]
    assert_close(weights.sum(-1), torch.ones(4).double())
    assert float((weights.amax(-1) / weights.amin(-1)).max()) <= torch.e**3 * (1 + 1e-9)


def test_a_high_cap_is_none() -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 6).double().unbind(0)
    assert_close(attend(q, k, v, 1e6), torch.nn.functional.scaled_dot_product_attention(q, k, v))


@given(first=st.integers(0, 40), second=st.integers(0, 40), shift=st.integers(0, 20))
def test_turned_positions_know_only_their_distance(first: int, second: int, shift: int) -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(1)).unbind(0)
    cos, sin = Rotary(8)(64)

    def product(m: int, n: int) -> Tensor:
        return (turned(q, cos[m : m + 1], sin[m : m + 1]) * turned(k, cos[n : n + 1], sin[n : n + 1])).sum()

    assert_close(product(first, second), product(first + shift, second + shift), rtol=1e-4, atol=1e-4)
    assert_close(turned(q, cos[first : first + 1], sin[first : first + 1]).norm(), q.norm())


@pytest.mark.parametrize("width", [8, 12, 64])
@pytest.mark.parametrize("rotary", [Rotary, plaid.Rotary])
def test_positions_turn_at_the_rates_that_checkpoints_hold(rotary: type[nn.Module], width: int) -> None:
    """To the last bit, which 10000^(-c / half) has not at all widths."""
    usual = 1.0 / (10000 ** (torch.arange(0, width, 2).float() / width))
    assert torch.equal(rotary(width).inv_freq, usual)  # type: ignore[arg-type]
    assert_close(usual.double(), 10000.0 ** (-torch.arange(0, width, 2).double() / width), rtol=1e-6, atol=0)


def test_heads_have_halves() -> None:
    with pytest.raises(UserError, match="hidden=12 is not a multiple of 2 heads=8"):
        FlmSpec().replace(hidden=12, heads=4)
