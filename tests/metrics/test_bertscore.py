"""BERTScore: by hand, by its laws, and with a tiny BERT made on the spot."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlkit.errors import UserError
from dlkit.metrics._base import Cases
from dlkit.metrics._contextual import LAYERS, Encoder, Words
from dlkit.metrics.bertscore import BertScore, f1

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] how do i learn python ? what is the best way to red blue".split()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a BERT of three layers and random weights large enough for words to differ."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, initializer_range=0.1, **sizes)
        BertModel(config).save_pretrained(folder)
    return str(folder)


def score(metric: BertScore, hypothesis: str, *references: str) -> float:
    return metric.score(Cases(["s"], [[hypothesis]], [references]))


def words(vectors: list[list[float]], counts: list[bool]) -> Words:
    return Words(torch.tensor(vectors), torch.tensor(counts))


def test_f1_by_hand() -> None:
    hypothesis = words([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], [False, True, True])
    reference = words([[1.0, 0.0], [0.8, 0.6]], [False, True])
    # best matches of the sample's two words: max(0, .6) and max(.6, .96); of the reference's word: max(.8, .6, .96)
    precision, recall = (0.6 + 0.96) / 2, 0.96
    assert f1(hypothesis, reference) == pytest.approx(2 * precision * recall / (precision + recall))
    # exchanged, precision and recall change places
    assert f1(reference, hypothesis) == pytest.approx(f1(hypothesis, reference))


def test_a_word_may_match_the_ends_of_a_text_but_they_do_not_count() -> None:
    hypothesis = words([[0.0, 1.0], [1.0, 0.0]], [False, True])
    reference = words([[1.0, 0.0], [0.0, 1.0]], [False, True])
    assert f1(hypothesis, reference) == 1


def test_a_text_without_words_scores_0() -> None:
    empty = words([[1.0, 0.0]], [False])
    assert f1(empty, words([[1.0, 0.0]], [True])) == f1(words([[1.0, 0.0]], [True]), empty) == 0
    assert f1(words([[1.0, 0.0]], [True]), words([[0.0, 1.0]], [True])) == 0


@torch.no_grad()
def plain(metric: BertScore, one: str, other: str) -> float:
    """The definition with loops, on the states of all layers."""
    model, tokenizer = metric.encoder.model, metric.encoder.tokenizer

    def states(text: str) -> list[Tensor]:
        (rows,) = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        return [row / row.norm() for row in rows]

    y, x = states(one), states(other)
    precision = sum(max(float(a @ b) for b in x) for a in y[1:-1]) / (len(y) - 2)
    recall = sum(max(float(a @ b) for a in y) for b in x[1:-1]) / (len(x) - 2)
    return 2 * precision * recall / (precision + recall)


def test_scores_of_a_model(bert: str) -> None:
    metric = BertScore(model=bert)
    hypothesis, reference = "how do i learn python ?", "what is the best way to learn python ?"
    expected = plain(metric, hypothesis, reference)
    assert 0.2 < expected < 0.95
    assert score(metric, hypothesis, reference) == pytest.approx(expected, abs=1e-6)
    assert score(metric, hypothesis, hypothesis) == pytest.approx(1, abs=1e-6)
    assert score(metric, hypothesis, reference, hypothesis) == pytest.approx(1, abs=1e-6), "the best reference counts"
    assert score(metric, "", reference) == 0
    assert score(metric, " how do  i learn python ? ", hypothesis) == pytest.approx(1, abs=1e-6)


def test_batch_mates_change_nothing(bert: str) -> None:
    texts = ["how", "how do i learn python ?", "red blue", "", "what is the best way"]
    cases = Cases(texts, [[text, "red"] for text in texts], [("how do i", "the best way")] * len(texts))
    alone = [BertScore(model=bert, batch_size=1).of_source(case) for case in cases.each()]
    assert BertScore(model=bert).per_source(cases) == pytest.approx(alone, abs=1e-6)


def test_without_context_the_order_of_words_matters_by_position_alone(bert: str) -> None:
    metric = BertScore(model=bert, layer=0)
    table = metric.encoder.model.embeddings.position_embeddings.weight
    with torch.no_grad():
        table.zero_()
    assert score(metric, "learn python how", "how learn python") == pytest.approx(1, abs=1e-6)
    assert score(BertScore(model=bert), "learn python how", "how learn python") < 0.999


def test_the_layer_is_a_state_of_the_whole_model(bert: str) -> None:
    whole = Encoder.load(bert)
    (ids,) = whole.tokenizer("how do i learn", return_tensors="pt")["input_ids"]
    hidden = whole.model(input_ids=ids[None], output_hidden_states=True).hidden_states
    for layer in range(4):
        (text,) = Encoder.load(bert, layer).read(["how do i learn"], 8)
        torch.testing.assert_close(text.vectors, torch.nn.functional.normalize(hidden[layer][0], dim=-1))
        assert text.counts.tolist() == [False, True, True, True, True, False]


def test_the_layer_of_a_known_model_is_found_by_its_name(bert: str, tmp_path: Path) -> None:
    known = tmp_path / "google" / "bert-base-uncased"
    known.parent.mkdir()
    known.symlink_to(bert)
    with pytest.raises(UserError, match=f"no encoder with {LAYERS['bert-base-uncased']} layers, but one with 3"):
        Encoder.load(str(known))
    assert Encoder.load(bert).layer == 3 and BertScore().model.rpartition("/")[2] in LAYERS


def test_identity_tells_models_and_layers_apart(bert: str) -> None:
    found = BertScore(model=bert).identity()
    assert found["model"] == Path(bert).name and found["layer"] == 3 and found["transformers"]
    assert found == BertScore(model=bert).identity() != BertScore(model=bert, layer=2).identity()


def test_long_texts_are_cut(bert: str) -> None:
    (text,) = Encoder.load(bert).read(["how " * 100], 1)
    assert text.vectors.shape == (32, 16) and text.counts.sum() == 30


def test_what_is_no_model_is_refused_in_a_line(bert: str, tmp_path: Path) -> None:
    for name in (tmp_path / "gone", tmp_path):
        with pytest.raises(UserError, match=r"cannot read the model .*; give a folder") as caught:
            Encoder.load(str(name))
        assert "\n" not in str(caught.value)
    for layer in (-1, 4):
        with pytest.raises(UserError, match=f"no encoder with {layer} layers, but one with 3"):
            Encoder.load(bert, layer)


def test_a_folder_that_lacks_weights_is_refused(bert: str, tmp_path: Path) -> None:
    for file in Path(bert).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(UserError, match=r"lacks the weights encoder\.layer\.3"):
        Encoder.load(str(tmp_path))
