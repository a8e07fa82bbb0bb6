"""Random numbers belong to a sample: they know nothing of batch mates, order or history, and are random enough."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlkit.randomness import LARGE, Stream, hash64, normal, truncated, uniform
from live_memory import LiveMemory

INDICES = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8)
MASK = 2**64 - 1
few = settings(max_examples=30)


def words(stream: Stream, index: int, count: int) -> list[int]:
    """The generator in whole numbers: SplitMix64 from a key that stream and sample make together."""

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)

    golden, base = 0x9E3779B97F4A7C15, hash64(f"{stream.seed}\x1f{stream.name}\x1f{stream.step}")
    key = mix(mix((index * golden + base) & MASK) ^ ((base * 3 + 1) & MASK))
    return [mix((key + (j + 1) * golden) & MASK) for j in range(count)]


@few
@given(seed=st.integers(-5, 2**40), index=st.integers(0, 2**63 - 1), step=st.integers(0, 10**6))
def test_uniforms_are_splitmix64(seed: int, index: int, step: int) -> None:
    stream = Stream(seed, "test", step)
    found = stream.uniform(torch.tensor([index]), 3)[0].tolist()
    assert found == [((word >> 12) + 0.5) * 2.0**-52 for word in words(stream, index, 3)]
    assert all(0 < value < 1 for value in found)


def test_splitmix64_itself() -> None:
    """The mixer's published sequence: seed 0 starts with this word (Vigna's reference implementation)."""
    from dlkit.randomness import GOLDEN, _mix, _signed

    assert int(_mix(torch.tensor([_signed(GOLDEN)]))) & MASK == 0xE220A8397B1DCDAF


def test_values_that_must_never_change() -> None:
    stream, index = Stream(0, "pinned", 3), torch.tensor([0, 1, 2**62])
    assert hash64("dlkit") == 3288316724111117370
    assert stream.integer() == 4890401709321594103
    assert stream.uniform(index, 2).tolist() == [
        [0.846095970383676, 0.233787515985742],
        [0.7185166917955136, 0.7881139872670148],
        [0.981901728385098, 0.9841574731018167],
    ]
    assert stream.normal(index, 3).flatten().tolist() == pytest.approx(
        [
            *(0.5146748423576355, -1.1813665628433228, 0.2633529305458069),
            *(0.6324617266654968, 0.33998411893844604, -0.5110037326812744),
            *(-0.05891251936554909, 0.15307733416557312, 0.1818169802427292),
        ],
        abs=1e-6,
    )
    assert stream.integers(index, 1000, 2).tolist() == [[846, 233], [718, 788], [981, 984]]


@few
@given(INDICES, st.randoms(use_true_random=False))
def test_batch_mates_and_order_do_not_matter(index: list[int], random) -> None:
    stream, order = Stream(7, "noise", 3), list(range(len(index)))
    random.shuffle(order)
    keys = torch.tensor(index)
    for draw in (
        lambda k: stream.normal(k, 3, 5),
        lambda k: stream.uniform(k, 4),
        lambda k: stream.integers(k, 9, 2),
    ):
        together = draw(keys)
        assert torch.equal(draw(keys[order]), together[order])
        assert torch.equal(torch.cat([draw(keys[k : k + 1]) for k in range(len(keys))]), together)


def test_a_longer_draw_begins_with_the_shorter_uniforms() -> None:
    stream, index = Stream(0, "a"), torch.arange(3)
    assert torch.equal(stream.uniform(index, 9)[:, :4], stream.uniform(index, 4))


def test_shapes() -> None:
    stream, index = Stream(0, "a"), torch.arange(4)
    assert stream.normal(index, 3, 5).shape == (4, 3, 5)  # an odd count: half of the last pair is dropped
    assert stream.normal(index).shape == stream.uniform(index).shape == (4,)
    assert stream.normal(index[:0], 2).shape == (0, 2)
    assert (stream.normal(index, 1).dtype, stream.uniform(index, 1).dtype) == (torch.float32, torch.float64)


def test_global_generators_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    first = Stream(0, "a").normal(torch.arange(3), 4)
    torch.manual_seed(1)
    torch.randn(5)
    assert torch.equal(Stream(0, "a").normal(torch.arange(3), 4), first)
    torch.random.set_rng_state(before)
    Stream(0, "a").uniform(torch.arange(3), 4)
    assert torch.equal(torch.random.get_rng_state(), before)


STREAM = Stream(0, "a", 0)
OTHERS = {
    "seed": Stream(1, "a", 0),
    "name": Stream(0, "b", 0),
    "step": STREAM.at(1),
    "below": STREAM.named("a"),
    "digits do not run together": Stream(0, "a\x1f1", 0),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_streams_are_unrelated(other: Stream) -> None:
    index = torch.arange(200)
    pair = torch.stack((STREAM.normal(index, 100).flatten(), other.normal(index, 100).flatten()))
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / math.sqrt(pair.shape[1])
    assert not (pair[0] == pair[1]).float().mean() > 1e-3


def test_neighbouring_samples_steps_and_seeds_are_unrelated() -> None:
    draws = {
        "samples": STREAM.normal(torch.arange(300), 100),
        "steps": torch.cat([STREAM.at(k).normal(torch.tensor([5]), 100) for k in range(300)]),
        "seeds": torch.cat([Stream(k, "a").normal(torch.tensor([5]), 100) for k in range(300)]),
    }
    for rows in draws.values():
        pair = torch.stack((rows[:-1].flatten(), rows[1:].flatten()))
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / math.sqrt(pair.shape[1])


def distance(values: Tensor, cdf: Tensor) -> float:
    """Kolmogorov and Smirnov's statistic, sqrt(n) sup |F_n - F|; above 1.95 once in a thousand."""
    n = len(values)
    steps = torch.arange(n + 1).double() / n
    cdf = cdf.sort().values
    return float(torch.maximum(cdf - steps[:-1], steps[1:] - cdf).max()) * math.sqrt(n)


@pytest.mark.parametrize(("samples", "each"), [(100_000, 1), (100, 1000)])
def test_uniforms_are_uniform(samples: int, each: int) -> None:
    values = Stream(5, "ks").uniform(torch.arange(samples), each).flatten()
    assert distance(values, values) < 1.95
    assert float(values.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12e5))


@pytest.mark.parametrize(("samples", "each"), [(100_000, 1), (100, 1000)])
def test_normals_are_normal(samples: int, each: int) -> None:
    values = Stream(6, "ks").normal(torch.arange(samples), each).flatten().double()
    assert distance(values, torch.special.ndtr(values)) < 1.95
    n = len(values)
    for power, (mean, variance) in {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96)}.items():
        assert float((values**power).mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / n))


def test_the_two_halves_of_a_pair_are_unrelated() -> None:
    rows = Stream(6, "pair").normal(torch.arange(50_000), 2).T
    assert abs(float(torch.corrcoef(rows)[0, 1])) < 4 / math.sqrt(50_000)
    assert abs(float(torch.corrcoef(rows.square())[0, 1])) < 4 / math.sqrt(50_000)


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers(high: int) -> None:
    values = Stream(3, "int").integers(torch.arange(20_000), high).flatten()
    counts = torch.bincount(values, minlength=high).double()
    assert len(counts) == high
    chi_2 = float(((counts - 20_000 / high) ** 2 / (20_000 / high)).sum())
    assert chi_2 <= (high - 1) + 4 * math.sqrt(2 * (high - 1))


def test_single_integers_differ() -> None:
    found = [Stream(0, "a", step).integer() for step in range(50)]
    assert all(0 <= value < 2**63 for value in found)
    assert all(a != b for a, b in pairwise(sorted(found)))


@pytest.mark.parametrize("bound", [0.05, 0.7, 2.0, 4.0])
def test_truncated_normals(bound: float) -> None:
    """What fits stays; all of it has the truncated normal's distribution, by Kolmogorov and Smirnov's distance."""
    z = Stream(0, "truncated").normal(torch.arange(400), 500).double()
    found = truncated(z, bound)
    assert float(found.abs().max()) <= bound
    inside = z.abs() <= bound
    assert torch.equal(found[inside], z[inside])
    sorted_values = found.flatten().sort().values
    inverse_mass = 1 / math.erf(bound / math.sqrt(2))
    wanted = (torch.erf(sorted_values / math.sqrt(2)) * inverse_mass + 1) / 2
    n = len(wanted)
    assert float((wanted - (torch.arange(n) + 0.5) / n).abs().max()) < 2.0 / n**0.5
    signs = (found.sign() * z.sign())[~inside]  # which tail a value was in plays no part
    assert abs(float(signs.mean())) < 5.0 / len(signs) ** 0.5


def test_truncation_of_float32_keeps_the_bound() -> None:
    found = truncated(torch.tensor([0.3, 0.7000001, -0.7000001, 9.0, -30.0]), 0.7)
    assert found.dtype == torch.float32
    assert float(found.abs().max()) <= 0.7
    assert float(found[0]) == pytest.approx(0.3)


@pytest.mark.parametrize("bound", [20.0, 50.0])
def test_a_bound_that_nothing_passes_changes_nothing(bound: float) -> None:
    z = Stream(1, "truncated").normal(torch.arange(4), 9)
    assert torch.equal(truncated(z, bound), z)


def test_large_blocks_are_drawn_one_after_another() -> None:
    """They are the same numbers, and the draw holds less than two of its results."""
    stream, index, shape = Stream(3, "large"), torch.arange(16), (4, LARGE // 4 + 1)
    with LiveMemory() as memory:
        drawn = stream.normal(index, *shape)
    assert memory.peak < 2 * drawn.numel() * 4
    for row in (0, 7, 15):
        assert torch.equal(drawn[row], stream.normal(index[row : row + 1], *shape)[0])


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.parametrize("count", [7, 24, 100, 1000])
def test_a_compiled_graph_draws_the_same(count: int) -> None:
    """One graph for all seeds; tails of vectors, where numbers overflow, among them."""
    graph = torch.compile(lambda word, index: (uniform(word, index, count), normal(word, index, count)), fullgraph=True)
    index = torch.randint(-(2**62), 2**62, (9,), generator=torch.Generator().manual_seed(1))
    for seed in range(4):
        stream = Stream(seed, "graph", step=seed)
        one, other = graph(torch.tensor(stream.word()), index)
        assert torch.equal(one, stream.uniform(index, count))
        torch.testing.assert_close(other, stream.normal(index, count), rtol=0, atol=1e-5)
