"""Tokenizers of every origin frame a text alike, survive saving, and are trained the same every time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.errors import UserError

ROOT = Path(__file__).parents[2]
TEXTS = ["The cat sat.", "the cats SIT , don't they?", "a Café for cats", "a mat, a cat"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "?", "don", "'", "t"]


def write_vocab(folder: Path, words: list[str]) -> Path:
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder / "vocab.txt"


def test_words_by_frequency_then_alphabet() -> None:
    tokenizer = make_tokenizer("train:word:9", TEXTS)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 1, 2, 3)
    assert tokenizer.vocab_size == 9
    assert tokenizer.backend.get_vocab() == {
        **{token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])},
        **{"a": 5, ",": 6, "cat": 7, "cats": 8},
    }
    assert tokenizer.encode("A cat naps") == [2, 5, 7, 1, 3]
    assert tokenizer.decode([2, 5, 7, 1, 3, 0, 0]) == "a cat [UNK]"


@given(st.lists(st.text("ab ?'é", max_size=12), max_size=4))
def test_batches_equal_single_texts(texts: list[str]) -> None:
    tokenizer = WORDPIECE
    rows = tokenizer.encode_batch(texts)
    assert rows == [tokenizer.encode(text) for text in texts]
    assert tokenizer.decode_batch(rows) == [tokenizer.decode(row) for row in rows]
    for row in rows:
        assert (row[0], row[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
        assert tokenizer.encode(tokenizer.decode(row)) == row


WORDPIECE = make_tokenizer("train:wordpiece:40", ["ab", "ba", "ab ? '", "e a b", *TEXTS])


def test_word_pieces_are_joined_and_punctuation_stays_apart() -> None:
    tokenizer = make_tokenizer("train:wordpiece:60", TEXTS)
    assert 30 < tokenizer.vocab_size <= 60
    assert tokenizer.decode(tokenizer.encode("Don't the CATS sit?")) == "don ' t the cats sit ?"
    assert tokenizer.decode(tokenizer.encode("café")) == "cafe"


def test_the_size_bounds_word_pieces_even_with_many_characters() -> None:
    texts = ["".join(map(chr, range(start, start + 20))) for start in range(0x1000, 0x1800, 20)]
    assert make_tokenizer("train:wordpiece:100", texts).vocab_size <= 100


@pytest.mark.parametrize("spec", ["train:wordpiece:60", "train:word:12"])
def test_training_is_the_same_in_every_process_and_order(spec: str, tmp_path: Path) -> None:
    code = "import sys; from dlkit.data.tokenizer import *; make_tokenizer(sys.argv[1], sys.argv[3:]).save(sys.argv[2])"
    for seed, texts in (("1", TEXTS), ("2", TEXTS[::-1])):
        command = [sys.executable, "-c", code, spec, str(tmp_path / seed), *texts]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed})
    assert (tmp_path / "1/tokenizer.json").read_bytes() == (tmp_path / "2/tokenizer.json").read_bytes()


@pytest.mark.parametrize("spec", ["train:wordpiece:60", "train:word:12", "bert", "diffuseq"])
def test_saving_and_loading(spec: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    vocabularies = {"bert": BERT, "diffuseq": ["cat", "The", "sat."]}
    path = str(write_vocab(tmp_path, vocabularies[spec])) if spec in vocabularies else spec
    tokenizer = make_tokenizer(path, TEXTS)
    tokenizer.save(tmp_path / "saved")
    ids = tokenizer.encode_batch(TEXTS)
    for again in (
        Tokenizer.load(tmp_path / "saved"),
        Tokenizer.load(tmp_path / "saved/tokenizer.json"),
        make_tokenizer(str(tmp_path / "saved")),
    ):
        assert again.encode_batch(TEXTS) == ids
        assert again.decode_batch(ids) == tokenizer.decode_batch(ids)
        assert again.specials == tokenizer.specials
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs(TEXTS)["input_ids"] == ids
    assert (theirs.pad_token_id, theirs.sep_token_id) == (tokenizer.pad_id, tokenizer.sep_id)


def test_bert_vocabulary(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(str(write_vocab(tmp_path, BERT)))
    assert tokenizer.encode("Don't the cats?") == [2, 9, 10, 11, 5, 6, 7, 8, 3]
    assert tokenizer.decode(tokenizer.encode("Don't the cats?")) == "don ' t the cats ?"


@pytest.mark.parametrize("listed", [[], ["[START]", "[END]", "[UNK]", "[PAD]"]])
def test_diffuseq_vocabulary(tmp_path: Path, listed: list[str]) -> None:
    tokenizer = make_tokenizer(str(write_vocab(tmp_path, [*listed, "cat 12", "The", "sat."])))
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.unk_id, tokenizer.pad_id) == (0, 1, 2, 3)
    assert tokenizer.vocab_size == 7
    assert tokenizer.encode("The cat sat. the") == [0, 5, 4, 6, 2, 1]
    assert tokenizer.decode([0, 5, 4, 6, 1, 3]) == "The cat sat."


def test_a_loaded_tokenizer_loses_its_truncation_padding_and_clean_up(tmp_path: Path) -> None:
    plain = make_tokenizer(str(write_vocab(tmp_path, BERT)))
    changed = json.loads(plain.backend.to_str())
    changed["decoder"]["cleanup"] = True
    changed["post_processor"] = None
    changed["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("the cats ?") == plain.encode("the cats ?")
    assert tokenizer.decode(tokenizer.encode("the cats ?")) == "the cats ?"


def test_special_tokens_are_named_by_the_config_beside_it(tmp_path: Path) -> None:
    make_tokenizer(str(write_vocab(tmp_path, [*BERT, "<end>"]))).save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "sep_token": {"content": "<end>"}}))
    assert Tokenizer.load(tmp_path).sep_id == len(BERT)


@pytest.mark.parametrize(
    "spec", ["", "a name", "train:", "train:bpe:100", "train:word:many", "train:word:-5", "hub/name/too/deep"]
)
def test_unknown_specs_list_the_accepted_forms(spec: str) -> None:
    with pytest.raises(UserError, match=r"not understood; give a tokenizer\.json, .* train:wordpiece:8192"):
        make_tokenizer(spec, TEXTS)


def test_hub_names_that_cannot_be_had() -> None:
    with pytest.raises(UserError, match="cannot be had from the hub") as caught:
        make_tokenizer("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_training_needs_texts_and_room() -> None:
    for texts, reason in ((None, "needs texts"), ([], "no words"), ([" "], "no words")):
        with pytest.raises(UserError, match=reason):
            make_tokenizer("train:word:100", texts)
    with pytest.raises(UserError, match="ask for at least 7"):
        make_tokenizer("train:wordpiece:6", TEXTS)
    assert make_tokenizer("train:wordpiece:7", TEXTS).vocab_size <= 7


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("vocab.txt", "[PAD]\n[CLS]\n[SEP]\ncat\n", r"lacks \[UNK\]"),
        ("vocab.txt", "cat\nmat\ncat\n", "'cat' more than once"),
        ("tokenizer.json", "{}", "not a tokenizer"),
        ("tokenizer.json", "no JSON", "not a tokenizer"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=reason) as caught:
        Tokenizer.load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_missing_files_and_missing_special_tokens(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(UserError, match="no tokenizer there"):
            make_tokenizer(str(path))
    tokenizer = make_tokenizer("train:word:20", TEXTS)
    tokenizer.save(tmp_path)
    content = (tmp_path / "tokenizer.json").read_text().replace("[PAD]", "[NIL]")
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match="no pad token"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        Tokenizer.load(tmp_path)


def test_a_text_is_no_vocabulary(tmp_path: Path) -> None:
    """A list may have counts behind its tokens; prose is refused."""
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("hello 12\nworld 3.5\nplain\n")
    assert {"hello", "world", "plain"} <= Tokenizer.load(vocabulary).backend.get_vocab().keys()
    vocabulary.write_text("plain\nhello world of text\n")
    with pytest.raises(UserError, match="line 2 holds several words"):
        Tokenizer.load(vocabulary)


@pytest.mark.parametrize("marks", [["[START]", "[END]", "[UNK]", "[PAD]"], ["START", "END", "UNK", "PAD"]])
def test_a_saved_vocabulary_of_diffuseq_or_diffusion_lm(marks: list[str], tmp_path: Path) -> None:
    vocab = {word: i for i, word in enumerate([*marks, "Cat", "sat."])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    for path in (tmp_path, tmp_path / "vocab.json"):
        tokenizer = Tokenizer.load(path)
        assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.unk_id, tokenizer.pad_id) == (0, 1, 2, 3)
        assert tokenizer.encode("Cat  cat sat.") == [0, 4, 2, 5, 1]
        assert tokenizer.has_own_words
        assert list(tokenizer.vocabulary().items()) == list(vocab.items())
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").vocabulary() == vocab


@pytest.mark.parametrize(
    ("vocab", "reason"),
    [
        ({"[START]": 0, "[END]": 1, "[UNK]": 2, "[PAD]": 4}, "its ids are not 0 to 3, each once"),
        ({"[START]": 0, "[END]": 1, "[UNK]": 2, "[PAD]": 2}, "its ids are not 0 to 3, each once"),
        ({"[END]": 0, "[START]": 1, "[UNK]": 2, "[PAD]": 3}, "does not begin with [START] [END] [UNK] [PAD]"),
        ({"a": "b"}, "not a tokenizer of the tokenizers library"),
    ],
)
def test_vocabularies_that_are_not_whole(vocab: dict, reason: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(UserError) as caught:
        Tokenizer.load(tmp_path)
    assert reason in str(caught.value)


def test_marked_text_keeps_all_but_the_padding_at_the_end(tmp_path: Path) -> None:
    words = ["[START]", "[END]", "[UNK]", "[PAD]", "b@@", "us", "__", "x"]
    tokenizer = make_tokenizer(str(write_vocab(tmp_path, words)))
    assert tokenizer.decode_marked([0, 7, 2, 3, 7, 1, 1, 3, 3]) == "[START] x [UNK] [PAD] x [END] [END]"
    assert tokenizer.decode_marked([4, 5, 6, 7, 3]) == "bus x"  # as the original joins pieces
    assert tokenizer.decode_marked([3, 3]) == tokenizer.decode_marked([]) == ""


def test_marked_word_pieces_are_tidied(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(str(write_vocab(tmp_path, [*BERT, "s", "we", "ve", ","])))
    ids = tokenizer.encode("The cats , don't we've ?")
    assert tokenizer.decode(ids) == "the cats , don ' t we ' ve ?"
    assert tokenizer.decode_marked([*ids, tokenizer.sep_id, 0]) == "[CLS] the cats, don't we've? [SEP] [SEP]"
    assert not tokenizer.has_own_words
