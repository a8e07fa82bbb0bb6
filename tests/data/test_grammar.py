"""The built-in grammar: closed, unambiguous, and split by meaning."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlkit.data.grammar import SLOTS, Grammar, Meaning, is_grammar, write_corpus
from dlkit.data.pairs import read_split
from dlkit.data.tokenizer import make_tokenizer
from dlkit.errors import UserError

GRAMMAR = Grammar()
MEANINGS = {split: set(GRAMMAR.meanings(split)) for split in ("train", "valid", "test")}
SENTENCES = [form for meaning in GRAMMAR.meanings() for form in GRAMMAR.forms(meaning)]


def test_size() -> None:
    assert len(GRAMMAR.families) >= 6
    assert all(len(SLOTS[slot]) >= 10 for family in GRAMMAR.families for slot in family.slots)
    assert all(len(family.slots) == 2 for family in GRAMMAR.families)
    assert len(GRAMMAR.meanings()) >= 1200
    assert len(SENTENCES) >= 40_000
    assert all(30 <= len(GRAMMAR.forms(meaning)) <= 60 for meaning in GRAMMAR.meanings())
    assert 110 <= len({word for sentence in SENTENCES for word in sentence.split()}) <= 150


def test_no_two_meanings_share_a_form_and_no_form_is_listed_twice() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES)


def test_sentences_are_words_between_single_blanks() -> None:
    for sentence in SENTENCES:
        words = sentence.split(" ")
        assert len(words) <= 9
        assert words[-1] == "?"
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words[:-1])


def test_a_tokenizer_of_words_loses_nothing() -> None:
    some = SENTENCES[::11]
    tokenizer = make_tokenizer("train:word:1000", some)
    assert tokenizer.decode_batch(tokenizer.encode_batch(some)) == some
    assert max(map(len, tokenizer.encode_batch(some))) <= 11


@given(st.sampled_from(GRAMMAR.meanings()), st.data())
def test_forms_are_paraphrases_of_each_other(meaning: Meaning, data: st.DataObject) -> None:
    forms = GRAMMAR.forms(meaning)
    sentence = data.draw(st.sampled_from(forms))
    assert GRAMMAR.parse(sentence) == meaning
    assert GRAMMAR.paraphrases(sentence) == set(forms) - {sentence}
    assert all(value in sentence.split() for value in meaning.values)


@given(st.integers(0, 1000), st.sampled_from(["train", "valid", "test"]))
def test_pairs_are_correct_and_repeatable(seed: int, split: str) -> None:
    pairs = GRAMMAR.pairs(split, 20, seed)
    assert pairs == GRAMMAR.pairs(split, 20, seed)
    for pair in pairs:
        assert GRAMMAR.parse(pair.src) in MEANINGS[split]
        assert set(pair.refs) <= GRAMMAR.paraphrases(pair.src)
        assert len(set(pair.refs)) == (1 if split == "train" else 4)


def test_seeds_differ() -> None:
    assert GRAMMAR.pairs("test", 20, 0) != GRAMMAR.pairs("test", 20, 1)


def test_splits_share_no_meaning_and_training_knows_every_value() -> None:
    assert sum(map(len, MEANINGS.values())) == len(set().union(*MEANINGS.values())) == len(GRAMMAR.meanings())
    assert len(MEANINGS["valid"]) == len(MEANINGS["test"]) == 150
    seen = {(meaning.family, value) for meaning in MEANINGS["train"] for value in meaning.values}
    assert seen == {(meaning.family, value) for meaning in GRAMMAR.meanings() for value in meaning.values}


def test_the_split_stays_as_it_is() -> None:
    """Published numbers hang on it."""
    assert GRAMMAR.meanings("test")[0] == Meaning("price", ("moscow", "phones"))
    assert GRAMMAR.pairs("train", 1)[0].src == "how much will toys go for in tokyo ?"


def test_sources_of_valid_and_test_are_distinct() -> None:
    pairs = GRAMMAR.pairs("test", 2048)
    assert len({pair.src for pair in pairs}) == 2048


def test_what_is_not_of_the_grammar() -> None:
    assert GRAMMAR.parse("where can i buy shoes in paris?") is None
    with pytest.raises(UserError, match="not a sentence of the built-in grammar"):
        GRAMMAR.paraphrases("where can i buy paris in shoes ?")
    with pytest.raises(UserError, match="no meaning"):
        GRAMMAR.forms(Meaning("buy", ("paris", "chess")))
    with pytest.raises(UserError, match="choose one of train, valid, test"):
        GRAMMAR.pairs("dev", 1)
    with pytest.raises(UserError, match="fewer than the 100000"):
        GRAMMAR.pairs("test", 100_000)


def test_corpus_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_corpus(folder, seed=3, n_train=50, n_valid=10, n_test=20)
    for split, n in (("train", 50), ("valid", 10), ("test", 20)):
        assert read_split(tmp_path / "one", split) == GRAMMAR.pairs(split, n, 3)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert is_grammar(tmp_path / "one")


def test_other_folders_are_not_of_the_grammar(tmp_path: Path) -> None:
    assert not is_grammar(tmp_path)
    assert not is_grammar(tmp_path / "absent")
    (tmp_path / "grammar.json").write_text(json.dumps({"grammar": "questions", "version": 0}))
    assert not is_grammar(tmp_path)
    (tmp_path / "grammar.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        is_grammar(tmp_path)
