"""Metrics of texts without a source: closed forms, bounds and what does not change them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlkit.errors import UserError
from dlkit.metrics._base import Cases, Sequences
from dlkit.metrics.distinct_n import DistinctN
from dlkit.metrics.entropy import Entropy, entropy
from dlkit.metrics.ngram_divergence import NgramDivergence, counts, js_divergence
from dlkit.metrics.seq_rep_n import SeqRepN

words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9)
texts = st.lists(words.map(" ".join), min_size=1, max_size=6)
orders = st.integers(1, 4)


def cases(*written: str, held_out: tuple[str, ...] = ("a b",)) -> Cases:
    return Cases.without_sources(written, held_out)


def test_entropy_by_hand() -> None:
    assert entropy("a b c d".split()) == pytest.approx(math.log(4))
    assert entropy("a a b b".split()) == pytest.approx(math.log(2))
    assert entropy(["a"] * 5) == entropy([]) == entropy(["a"]) == 0
    assert Entropy().score(cases("a b", "a")) == pytest.approx(math.log(2) / 2)


@given(words, st.randoms())
def test_entropy_lies_between_0_and_that_of_words_that_all_differ(given: list[str], random) -> None:
    value = entropy(given)
    assert 0 <= value <= math.log(max(len(given), 1)) + 1e-12
    assert value <= math.log(max(len(set(given)), 1)) + 1e-12
    turned = list(given)
    random.shuffle(turned)
    assert entropy(turned) == pytest.approx(value, abs=1e-12)
    assert entropy(given * 2) == pytest.approx(value, abs=1e-12)  # a matter of shares, not of numbers


def test_entropy_of_tokens_counts_marks_and_padding() -> None:
    known = Cases.without_sources(["a"], ["b"], Sequences([[1, 5, 2, 0]], ["[CLS] a [SEP] [PAD]"]))
    assert Entropy.model_validate({"of": "tokens"}).score(known) == pytest.approx(math.log(4))
    assert Entropy().score(known) == 0
    with pytest.raises(UserError, match="the tokens of these texts are not known; set of=words"):
        Entropy.model_validate({"of": "tokens"}).score(cases("a"))


def test_distinct_n_by_hand() -> None:
    both = cases("a b a b", "a b")
    assert DistinctN().score(both) == 2 / 4  # ab ba ab | ab
    assert DistinctN(n=1).score(both) == 2 / 6
    assert DistinctN(over="text").score(both) == pytest.approx((2 / 3 + 1) / 2)
    assert DistinctN().score(cases("", "a")) == DistinctN(over="text").score(cases("", "a")) == 0


def test_repetition_by_hand() -> None:
    assert SeqRepN(n=2).score(cases("a b a b")) == pytest.approx(1 / 3)
    assert SeqRepN().score(cases("a a a a a a")) == pytest.approx(1 - 1 / 3)
    assert SeqRepN().score(cases("", "a", "a b c", "a b c d")) == 0


@given(texts, orders)
def test_shares_are_shares(written: list[str], n: int) -> None:
    given = cases(*written)
    assert 0 <= DistinctN(n=n).score(given) <= 1
    assert 0 <= SeqRepN(n=n).score(given) < 1
    long_enough = all(len(text.split()) >= n for text in written)
    if long_enough:  # within a text the two say the same
        assert DistinctN(n=n, over="text").score(given) == pytest.approx(1 - SeqRepN(n=n).score(given))
    assert DistinctN(n=n).score(cases(*written * 2)) == pytest.approx(DistinctN(n=n).score(given) / 2)


def test_the_divergence_by_hand() -> None:
    assert js_divergence({"a": 1}, {"a": 3}) == 0
    assert js_divergence({"a": 1}, {"b": 1}) == 1
    half = 0.5 * (1 * math.log2(1 / 0.75)) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    assert js_divergence({"a": 2}, {"a": 1, "b": 1}) == pytest.approx(half)
    assert counts(["A b", ""], 1) == {("a",): 1, ("b",): 1, ("</s>",): 2}
    assert counts(["a b"], 2) == {("<s>", "a"): 1, ("a", "b"): 1, ("b", "</s>"): 1}
    assert counts([""], 3) == {("<s>", "<s>", "</s>"): 1}


@given(texts, texts, orders)
def test_the_divergence_is_a_distance_of_shares(first: list[str], second: list[str], n: int) -> None:
    def apart(one: list[str], other: list[str]) -> float:
        return NgramDivergence(n=n).score(cases(*one, held_out=tuple(other)))

    assert 0 <= apart(first, second) <= 1
    assert apart(first, second) == pytest.approx(apart(second, first), abs=1e-12)
    assert apart(first, first[::-1] * 3) == pytest.approx(0, abs=1e-12)
    mixed = apart(first, [*first * len(second), *second * len(first)])
    assert mixed <= apart(first, second) + 1e-9  # half way it is nearer


def test_the_divergence_tells_what_is_wrong_with_texts() -> None:
    """Wrong order, wrong length, and many times the same text are each worse than the words and order of the data."""
    held_out = [f"the {a} sat on the {b}" for a in ("cat", "dog", "cow") for b in ("mat", "bed")]
    like = [f"the {a} sat on the {b}" for a, b in (("cat", "bed"), ("dog", "mat"), ("cow", "bed"))]
    shuffled = [" ".join(sorted(text.split())) for text in like]
    short, alike = ["the cat sat"] * 3, [like[0]] * 3
    scores = [
        NgramDivergence().score(cases(*each, held_out=tuple(held_out))) for each in (like, shuffled, short, alike)
    ]
    assert min(scores) == scores[0]
    assert sorted(scores)[1] > 2 * scores[0]


def test_what_needs_sources_or_held_out_texts_says_so() -> None:
    with pytest.raises(UserError, match="needs held-out texts"):
        NgramDivergence().score(cases("a", held_out=()))
    given = cases("a", "b")
    assert given.offers == {"texts"} and given.num_samples == 1
    assert cases("a", held_out=()).offers == frozenset()
    with pytest.raises(UserError, match="there are no texts to score"):
        cases()
