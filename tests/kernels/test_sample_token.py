"""Sampling a token: what is kept, by brute force, and how often each is drawn."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlkit.kernels.sample_token import restrict, sample_token
from dlkit.randomness import Stream

few = settings(max_examples=60)

counted = st.lists(st.integers(1, 6), min_size=1, max_size=7)  # small whole weights: sums are exact and ties common
temperatures, shares = st.floats(0.05, 20.0), st.floats(0.01, 1.0)
ends = st.sampled_from([2.0**-53, 0.5, 1 - 2.0**-53])  # the least and the largest uniform there is


def row(values: list[int] | list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def random_logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(weights: Tensor) -> set[int]:
    return set(weights[0].nonzero()[:, 0].tolist())


@few
@given(counted, st.integers(1, 99))
def test_the_nucleus_is_the_smallest_set_that_reaches_its_share(weights: list[int], percent: int) -> None:
    found = kept(restrict(row(weights), None, percent / 100))

    def reaches(tokens: tuple[int, ...] | set[int]) -> bool:
        return 100 * sum(weights[v] for v in tokens) >= percent * sum(weights)

    assert reaches(found)
    assert not any(map(reaches, itertools.combinations(range(len(weights)), len(found) - 1)))
    assert min(weights[v] for v in found) >= max((weights[v] for v in range(len(weights)) if v not in found), default=0)


@few
@given(counted, st.integers(1, 9))
def test_top_k_keeps_the_heaviest_and_the_first_of_equals(weights: list[int], top_k: int) -> None:
    heaviest_first = sorted(range(len(weights)), key=lambda v: (-weights[v], v))
    assert kept(restrict(row(weights), top_k)) == set(heaviest_first[:top_k])


@few
@given(counted, st.integers(1, 9), shares)
def test_the_nucleus_is_taken_of_what_top_k_left(weights: list[int], top_k: int, top_p: float) -> None:
    both = restrict(row(weights), top_k, top_p)
    assert torch.equal(both, restrict(restrict(row(weights), top_k), None, top_p))
    assert torch.equal(both[both > 0], row(weights)[both > 0])  # what is kept is not rescaled


@few
@given(counted)
def test_nothing_is_dropped_unless_asked(weights: list[int]) -> None:
    for top_k in (None, len(weights), len(weights) + 1):
        assert torch.equal(restrict(row(weights), top_k), row(weights))


@few
@given(st.integers(0, 10**6), st.integers(1, 40), ends)
def test_the_coldest_draws_are_the_argmax(seed: int, v: int, u: float) -> None:
    logits, chances = random_logits(seed, 5, v), torch.full((5,), u, dtype=torch.float64)
    best = logits.argmax(-1)
    assert torch.equal(sample_token(logits, chances, top_k=1, temperature=3.0), best)
    assert torch.equal(sample_token(logits, chances, top_p=1e-9), best)
    for temperature in (0.0, 5e-324, 1e-12):
        assert torch.equal(sample_token(logits, chances, temperature=temperature), best)


def test_of_equals_the_coldest_draws_take_the_first() -> None:
    logits, u = torch.tensor([[1.0, 7.0, 7.0, 7.0]]), torch.tensor([0.99])
    for coldest in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.01}):
        assert sample_token(logits, u, **coldest).tolist() == [1]
    assert sample_token(logits, u, top_k=2).tolist() == [2]


@few
@given(st.integers(0, 10**6), temperatures, st.none() | st.integers(1, 12), shares)
def test_evenly_spread_uniforms_draw_each_token_its_share(
    seed: int, temperature: float, top_k: int | None, top_p: float
) -> None:
    count, logits = 500, random_logits(seed, 1, 10)
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = sample_token(logits.expand(count, 10), u, temperature=temperature, top_k=top_k, top_p=top_p)
    share = (logits.double() / temperature).softmax(-1)
    share = restrict(share, top_k, top_p)
    expected = count * share[0] / share.sum()
    assert ((drawn.bincount(minlength=10) - expected).abs() <= 1.0).all()  # an interval of that length, two cut ends


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"top_k": 5}, {"temperature": 2.0, "top_p": 0.8}], ids=str
)
def test_frequencies_match_the_restricted_softmax(options: dict[str, float]) -> None:
    count, logits = 20_000, random_logits(1, 1, 12) / 3
    u = Stream(0, "decode").uniform(torch.arange(count))
    drawn = sample_token(logits.expand(count, 12), u, **options).bincount(minlength=12)
    share = (logits[0].double() / options.get("temperature", 1.0)).softmax(-1)
    share = restrict(share[None], options.get("top_k"), options.get("top_p", 1.0))[0]
    expected, alive = count * share / share.sum(), share > 0
    chi_squared = ((drawn - expected).square() / expected)[alive].sum()
    freedom = int(alive.sum()) - 1
    assert drawn[~alive].sum() == 0
    assert chi_squared < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations


@few
@given(st.integers(0, 10**6), st.floats(-1e4, 1e4), ends)
def test_only_differences_of_logits_matter(seed: int, shift: float, u: float) -> None:
    logits, chances = (4 * random_logits(seed, 6, 9)).round(), torch.full((6,), u, dtype=torch.float64)
    shifted = logits + round(shift)
    assert torch.equal(sample_token(shifted, chances, top_p=0.7), sample_token(logits, chances, top_p=0.7))


@few
@given(st.integers(1, 400))
def test_a_token_without_probability_is_never_drawn(v: int) -> None:
    logits = torch.full((3, v), float("-inf"))
    logits[:, v // 2] = 0.0
    u = torch.tensor([2.0**-53, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert sample_token(logits, u).tolist() == [v // 2] * 3


def test_a_long_tail_keeps_its_mass() -> None:
    """100,000 tokens share half of the mass: a sum in float32 that stalls would never reach the last of them."""
    logits = torch.zeros(1, 100_001)
    logits[0, 0] = torch.tensor(100_000.0).log()
    assert sample_token(logits, torch.tensor([0.499])).tolist() == [0]
    assert sample_token(logits, torch.tensor([0.75])).item() == pytest.approx(50_000, abs=2)
    assert sample_token(logits, torch.tensor([1 - 2.0**-53], dtype=torch.float64)).tolist() == [100_000]


def test_logits_that_are_not_numbers_give_a_token() -> None:
    assert sample_token(torch.full((1, 4), float("nan")), torch.tensor([0.5])).item() in range(4)
