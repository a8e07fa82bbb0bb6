"""The rows of a step and the texts to validate on."""

import shutil
from pathlib import Path

import pytest
import torch

from dlkit.data.pairs import read_split
from dlkit.data.tokenizer import Tokenizer, train_word
from dlkit.errors import UserError
from dlkit.training.data import Corpus, HeldOut, data_identity

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(data: Path) -> Tokenizer:
    return train_word((text for pair in read_split(data, "train") for text in (pair.src, *pair.refs)), 200)


@pytest.fixture(scope="module")
def corpus(data: Path, tokenizer: Tokenizer) -> Corpus:
    return Corpus(data, tokenizer, 24, "refuse", read_split(data, "train"))


def test_what_is_wrong_with_a_text_is_told_with_its_split(data: Path, tokenizer: Tokenizer) -> None:
    for split in ("train", "valid"):
        with pytest.raises(UserError, match=rf"/{split}: pair 1: .* fit a sequence of 8"):
            Corpus(data, tokenizer, 8, "refuse", read_split(data, split), split=split)


def test_an_epoch_sees_every_row_once(corpus: Corpus) -> None:
    rows = torch.cat([corpus.draw(8, step, seed=3, device=CPU).batch.index for step in range(5)])
    assert sorted(rows.tolist()) == list(range(40))


def test_samples_are_numbered_through_the_run(corpus: Corpus) -> None:
    assert corpus.draw(8, 0, 3, CPU).index.tolist() == list(range(8))
    assert corpus.draw(8, 5, 3, CPU).index.tolist() == list(range(40, 48))


def test_smaller_batches_are_pieces_of_larger_ones(corpus: Corpus) -> None:
    whole = corpus.draw(8, 1, 3, CPU)
    pieces = [corpus.draw(4, step, 3, CPU) for step in (2, 3)]
    assert torch.equal(whole.batch.ids, torch.cat([piece.batch.ids for piece in pieces]))
    assert torch.equal(whole.index, torch.cat([piece.index for piece in pieces]))


def test_held_out_texts(data: Path, tmp_path: Path) -> None:
    held_out = HeldOut.read(data, "valid", 3)
    assert held_out.sources == [pair.src for pair in read_split(data, "valid")[:3]]
    assert held_out.grammar is not None
    cases = held_out.cases([["x"]] * 3)
    assert "grammar" in cases.offers
    plain = shutil.copytree(data, tmp_path / "plain")
    (plain / "grammar.json").unlink()
    assert HeldOut.read(plain, "valid").cases([["x"]] * 8).offers == {"sources", "references"}


def test_references_are_normalised(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "valid.jsonl").write_text('{"src": "Paris?", "trg": ["Books  in PARIS?", "zebra"]}\n')
    pairs = HeldOut.read(tmp_path, "valid").normalised(tokenizer).pairs
    assert pairs[0].src == "Paris?"
    assert pairs[0].refs == ("books in paris ?", "[UNK]")


def test_the_identity_of_data(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    assert data_identity(copy) == data_identity(data)
    (copy / "valid.jsonl.gz").unlink()
    assert data_identity(copy) == {"train": data_identity(data)["train"]}
    (copy / "train.jsonl.gz").unlink()
    with pytest.raises(UserError, match="no train data"):
        data_identity(copy)
    with pytest.raises(UserError, match=r"the data folder .* does not exist"):
        data_identity(tmp_path / "nothing")
