"""Laws of the metrics, by hand-worked cases, by exact enumeration, and for any samples."""

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.errors import UserError
from dlkit.metrics import entry, get, names
from dlkit.metrics._base import NEEDS, Cases
from dlkit.metrics._bleu import Sentence, bleu
from dlkit.metrics._mbr import mbr_select
from dlkit.metrics.distinct_valid import DistinctValid, perfect_distinct_valid, total_collapse
from dlkit.metrics.rouge_l import lcs_length

FOR_TEXTS = ["distinct_n", "entropy", "ngram_divergence", "seq_rep_n"]
USUAL = [
    "bleu",
    "copy_rate",
    "dist_1",
    "distinct_valid",
    "div_4",
    "exact_validity",
    "rouge_l",
    "sacrebleu",
    "self_bleu",
]
CORRECT = frozenset({"how to learn it ?", "how can i learn it ?", "what helps to learn it ?"})
words = st.lists(st.sampled_from(["how", "to", "learn", "it", "?"]), max_size=8)
text = st.one_of(words.map(" ".join), st.sampled_from([*sorted(CORRECT), "how do i learn it ?"]))


def grammar(source: str) -> frozenset[str]:
    return CORRECT


def one(samples: list[str], references: tuple[str, ...] = ("how to learn it ?",)) -> Cases:
    return Cases(["how do i learn it ?"], [samples], [references], grammar)


def test_all_metrics_are_here_and_described() -> None:
    assert names() == sorted(["bertscore", "gen_ppl", *USUAL, *FOR_TEXTS])
    for name in names():
        part = get(name)
        assert entry(name).description
        assert part.needs <= NEEDS.keys()
        assert part.on_request == (name not in [*USUAL, *FOR_TEXTS])
        assert part.for_texts == (name in FOR_TEXTS)
        assert isinstance(part.higher_is_better, bool)
        assert part().spec()["name"] == name


@settings(max_examples=100)
@given(st.lists(text, min_size=2, max_size=5), st.lists(text.filter(str.split), min_size=1, max_size=3).map(tuple))
def test_every_metric_lies_between_0_and_1(samples: list[str], references: tuple[str, ...]) -> None:
    for name in USUAL:
        assert 0 <= get(name)().score(one(samples, references)) <= 1 + 1e-12, name


@given(st.lists(st.text("abc ", min_size=1), min_size=1, max_size=3).map(" ".join).filter(lambda t: len(t.split()) > 3))
def test_a_long_sentence_scores_1_against_itself(sentence: str) -> None:
    cases = Cases(["s"], [[sentence, sentence]], [(sentence,)])
    for name in ("bleu", "rouge_l", "self_bleu"):
        assert get(name)().score(cases) == 1


@settings(max_examples=100)
@given(st.lists(text, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(samples: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(samples, len(samples))
    for name in sorted({*USUAL} - {"self_bleu", "sacrebleu"}):
        assert get(name)().score(one(samples)) == pytest.approx(get(name)().score(one(shuffled))), name


@settings(max_examples=50)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=6, max_size=6).map(" ".join), min_size=2, max_size=5))
def test_self_bleu_ignores_the_order_of_samples_of_one_length(samples: list[str]) -> None:
    assert get("self_bleu")().score(one(samples)) == pytest.approx(get("self_bleu")().score(one(samples[::-1])))


@given(st.lists(text, min_size=1, max_size=6))
def test_distinct_valid_is_at_most_exact_validity(samples: list[str]) -> None:
    assert DistinctValid().score(one(samples)) <= get("exact_validity")().score(one(samples))


@given(text, st.lists(text, min_size=1, max_size=3))
def test_a_further_reference_leaves_no_word_less_matched(hypothesis: str, references: list[str]) -> None:
    more = get("rouge_l")().score(one([hypothesis], (*references, "how ?")))
    assert more >= get("rouge_l")().score(one([hypothesis], tuple(references)))


def test_bleu_by_hand() -> None:
    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, no quadruple: smoothed by ln(6) / 10 of 3; no brevity penalty
    score = bleu(Sentence.of("a b c x d e"), [Sentence.of("a b c d e")])
    assert score == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 0.1791759469228055 / 3) ** 0.25)


def test_bleu_takes_the_shorter_of_two_equally_close_references() -> None:
    hypothesis, short, long = (Sentence.of(text) for text in ("a b c d e", "a b c d", "a b c d e f"))
    assert bleu(hypothesis, [short, long]) == bleu(hypothesis, [long, short]) == 1


def test_bleu_clips_by_the_reference_that_has_most() -> None:
    references = [Sentence.of("the cat the mat"), Sentence.of("a cat is here")]
    assert bleu(Sentence.of("the the cat cat"), references) < bleu(Sentence.of("the cat the mat"), references) == 1


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_longest_common_subsequence(one: str, other: str) -> None:
    def plain(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 0
        if one[i - 1] == other[j - 1]:
            return table[i - 1, j - 1] + 1
        return max(table[i - 1, j], table[i, j - 1])

    table: dict[tuple[int, int], int] = {}
    for i, j in product(range(len(one) + 1), range(len(other) + 1)):
        table[i, j] = plain(i, j)
    assert lcs_length(list(one), list(other)) == table[len(one), len(other)]


def test_dist_1_and_div_4_by_hand() -> None:
    cases = one(["a a b c", "a a b c d", ""])
    assert get("dist_1")().score(cases) == pytest.approx((3 / 4 + 4 / 5 + 0) / 3)
    assert get("div_4")().score(cases) == pytest.approx(2 / 3)
    assert get("div_4")().score(one(["a b c", "d"])) == 0


def test_validity_by_hand() -> None:
    samples = ["how to learn it ?", " how  to learn it ? ", "how can i learn it ?", "how do i learn it ?", "how ?"]
    assert get("exact_validity")().score(one(samples)) == 3 / 5
    assert get("distinct_valid")().score(one(samples)) == 2 / 5
    assert get("copy_rate")().score(one(samples)) == 1 / 5


def test_a_copy_is_wrong_even_if_the_grammar_lists_it() -> None:
    cases = Cases(["a b"], [["a b", "b a"]], [()], lambda source: frozenset({"a b", "b a"}))
    assert get("exact_validity")().score(cases) == 1 / 2


def test_copy_rate_disregards_case_and_white_space_and_needs_no_grammar() -> None:
    assert get("copy_rate")().score(Cases(["A  b ?"], [["a b ? ", "a b"]], [()])) == 1 / 2


@pytest.mark.parametrize(("n", "num_samples"), list(product(range(1, 5), range(1, 6))))
def test_perfect_sampler_by_enumeration(n: int, num_samples: int) -> None:
    draws = list(product(range(n), repeat=num_samples))
    expected = sum(len(set(draw)) for draw in draws) / len(draws) / num_samples
    assert perfect_distinct_valid(n, num_samples) == pytest.approx(expected)
    assert total_collapse(num_samples) == pytest.approx(1 / num_samples)


def test_perfect_sampler_of_cases_is_a_mean_over_sources() -> None:
    correct = {"s": frozenset({"a", "b"}), "t": frozenset({"a", "b", "c"})}
    cases = Cases(["s", "t"], [["a", "b"], ["a", "b"]], [(), ()], correct.__getitem__)
    expected = (perfect_distinct_valid(2, 2) + perfect_distinct_valid(3, 2)) / 2
    assert DistinctValid().perfect(cases) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "num_samples"), [(0, 3), (3, 0)])
def test_perfect_sampler_refuses_empty_counts(n: int, num_samples: int) -> None:
    with pytest.raises(UserError, match="at least 1"):
        perfect_distinct_valid(n, num_samples)


def test_sacrebleu_scores_first_samples_with_uneven_references() -> None:
    metric = get("sacrebleu")()
    sources, references = ["s", "t"], [("a b c d e",), ("x", "f g h i j")]
    right = Cases(sources, [["a b c d e", "no"], ["f g h i j", "no"]], references)
    assert metric.score(right) == pytest.approx(1)
    wrong_first = Cases(sources, [["no", "a b c d e"], ["no", "f g h i j"]], references)
    assert metric.score(wrong_first) == 0


def test_sacrebleu_by_hand() -> None:
    # pooled matches 9/10, 7/8, 5/6, 3/4 of lengths 10 and 10
    cases = Cases(["s", "t"], [["a b c d x"], ["f g h i j"]], [("a b c d e",), ("f g h i j",)])
    assert get("sacrebleu")(tokenize="none").score(cases) == pytest.approx((9 / 10 * 7 / 8 * 5 / 6 * 3 / 4) ** 0.25)
    upper = Cases(["s"], [["A B C D"]], [("a b c d",)])
    assert get("sacrebleu")(lowercase=True).score(upper) == pytest.approx(1)
    assert get("sacrebleu")().score(upper) == 0


def test_mbr_takes_the_majority_and_the_first_of_equals() -> None:
    assert mbr_select(["x y z w", "a b c d", "a b c d"]) == 1
    assert mbr_select(["a b c d", "e f g h"]) == 0
    assert mbr_select(["alone"]) == 0
    with pytest.raises(UserError, match="no sample"):
        mbr_select([])


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        (([], [], []), "no sources"),
        ((["s"], [["a"], ["b"]], [()]), "1 sources but hypotheses for 2"),
        ((["s"], [["a"]], []), "1 sources but references for 0"),
        ((["s", "t"], [["a"], []], [(), ()]), "source 2 has 0 samples"),
        ((["s"], [[]], [()]), "source 1 has 0 samples"),
        ((["s", "t"], [["a", "b"], ["a"]], [(), ()]), "source 2 has 1 samples, source 1 has 2"),
    ],
)
def test_bad_cases_are_refused(cases: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Cases(*cases)


def test_a_bare_text_is_not_taken_for_a_list() -> None:
    bare = ["ab"]
    with pytest.raises(UserError, match="source 1: hypotheses are one text"):
        Cases(["s"], bare, [()])
    with pytest.raises(UserError, match="source 1: references are one text"):
        Cases(["s"], [["a"]], bare)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bleu", "reference for every source"),
        ("rouge_l", "reference for every source"),
        ("sacrebleu", "reference for every source"),
        ("self_bleu", "two or more samples"),
        ("div_4", "two or more samples"),
        ("exact_validity", "correct outputs are known"),
        ("distinct_valid", "correct outputs are known"),
    ],
)
def test_a_metric_says_what_it_lacks(name: str, message: str) -> None:
    bare = Cases(["s"], [["a"]], [()])
    with pytest.raises(UserError, match=f"metric '{name}' needs .*{message}"):
        get(name)().score(bare)
    assert 0 <= get(name)().score(one(["how ?", "how ?"])) <= 1
