"""Generative perplexity: closed forms, with tiny judges made on the spot."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from dlkit.errors import UserError
from dlkit.metrics._base import Cases, Sequences
from dlkit.metrics._causal import Judge
from dlkit.metrics._contextual import Encoder
from dlkit.metrics.gen_ppl import GenPpl

WORDS = ["<end>", "<unk>", "a", "b", "c", "[CLS]", "[SEP]"]
TEXTS = ["a b c", "b", "", "c c a a b b"]


def judge(folder: Path, uniform: bool, marks: tuple[str, ...] = ("bos", "eos")) -> str:
    """A folder with a GPT-2 of one layer; with all weights zero it gives every token the same probability."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {f"{mark}_token": "<end>" for mark in marks}
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **named).save_pretrained(folder)
    config = GPT2Config(vocab_size=len(WORDS), n_positions=8, n_embd=8, n_layer=1, n_head=2, initializer_range=0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
    if uniform:
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> str:
    return judge(tmp_path_factory.mktemp("uniform"), uniform=True)


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> str:
    return judge(tmp_path_factory.mktemp("random"), uniform=False)


def sequences(*texts: str) -> Cases:
    """What a model without sources wrote, marks and all."""
    return Cases.without_sources(texts, ["a"], Sequences([[0]] * len(texts), texts))


def nats(metric: GenPpl, ids: list[int]) -> list[float]:
    """-ln p of every token but the first, by a plain call of the judge."""
    with torch.no_grad():
        logits = metric.judge.model(torch.tensor([ids])).logits[0, :-1]
    return F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").tolist()


@pytest.mark.parametrize("protocol", ["plain", "flm"])
def test_to_a_uniform_judge_every_text_is_as_perplexing_as_the_vocabulary_is_large(uniform: str, protocol: str) -> None:
    metric = GenPpl.model_validate({"model": uniform, "protocol": protocol})
    assert metric.score(sequences(*TEXTS)) == pytest.approx(len(WORDS), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_plain_protocol_scores_each_text_with_its_end(random: str, batch_size: int) -> None:
    """The rows are those of the four texts between two end marks; one text is longer than the judge takes."""
    metric = GenPpl(model=random, batch_size=batch_size)
    rows = [[0, 2, 3, 4, 0], [0, 3, 0], [0, 0], [0, 4, 4, 2, 2, 3, 3, 0]]
    values = [value for row in rows for value in nats(metric, row)]
    assert metric.score(sequences(*TEXTS)) == pytest.approx(math.exp(sum(values) / len(values)), rel=1e-5)
    long = sequences("a b c a b c a b c")
    cut = nats(metric, [0, 2, 3, 4, 2, 3, 4, 2])
    assert metric.score(long) == pytest.approx(math.exp(sum(cut) / len(cut)), rel=1e-5)


def test_the_protocol_of_flm(random: str) -> None:
    """No begin mark, so the first token is given; every other token counts but end marks after the first one.

    The second sequence is padded with end marks to the length of the first: one of them counts. The third has an end
    mark within, which is the first, and a word after it, which counts. The fifth is beyond two whole batches.
    """
    metric = GenPpl(model=random, protocol="flm", batch_size=2, max_length=5)
    written = sequences("a b c a b c", "b c", "a <end> b", "c a", "b b b b")
    a, b, c = 2, 3, 4
    first = nats(metric, [a, b, c, a, b])
    second = nats(metric, [b, c, 0])
    third = nats(metric, [a, 0, b])
    fourth = nats(metric, [c, a, 0])
    values = [*first, *second, *third, *fourth]
    assert metric.score(written) == pytest.approx(math.exp(sum(values) / len(values)), rel=1e-5)


def test_fewer_texts_than_a_batch_are_one_batch(random: str) -> None:
    few, many = (GenPpl(model=random, protocol="flm", batch_size=size) for size in (3, 100))
    assert few.score(sequences("a b", "c", "b c a")) == many.score(sequences("a b", "c", "b c a"))


def test_a_judge_with_other_names_for_its_marks(tmp_path: Path) -> None:
    """A tokenizer of dlkit calls them [CLS] and [SEP]; one without any cannot say where a text ends."""
    metric = GenPpl(model=judge(tmp_path / "bert", uniform=True, marks=("cls", "sep")))
    assert metric.judge.begin == metric.judge.end == 0
    assert metric.score(sequences("a b")) == pytest.approx(len(WORDS), rel=1e-5)
    with pytest.raises(UserError, match="its tokenizer has no eos or sep token"):
        GenPpl(model=judge(tmp_path / "none", uniform=True, marks=())).score(sequences("a"))


def test_the_identity_names_judge_and_settings(random: str, uniform: str) -> None:
    found = GenPpl(model=random, protocol="flm", max_length=5).identity()
    assert found["model"] == Path(random).name
    assert (found["protocol"], found["max_length"], found["batch_size"]) == ("flm", 5, 8)
    assert found["sha256"] != GenPpl(model=uniform).identity()["sha256"]


def test_what_cannot_be_scored_is_told(random: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the model nowhere/at-all"):
        GenPpl(model="nowhere/at-all").score(sequences("a"))
    with pytest.raises(UserError, match=r"takes 8 tokens; set max_length=8 or less"):
        GenPpl(model=random, max_length=9).identity()
    with pytest.raises(UserError, match="set protocol=plain"):
        GenPpl(model=random, protocol="flm").score(Cases.without_sources(["a b"]))
    with pytest.raises(UserError, match="no text has two tokens"):
        GenPpl(model=random, protocol="flm").score(sequences("a", ""))


def test_the_hub_is_asked_once_and_only_for_what_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline it is one question, whatever the libraries would do; of a path, none."""
    asked: list[tuple[str, float]] = []

    def nobody_answers(name: str, timeout: float) -> None:
        asked.append((name, timeout))
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.model_info", nobody_answers)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for load in (Judge.load, Encoder.load):
        for path in (tmp_path / "gone", "./gone", "../gone", "~/gone", "runs/my/judge"):
            with pytest.raises(UserError, match=r"cannot read the model .*: there is no such folder; give a"):
                load(str(path))
        assert asked == []
        with pytest.raises(UserError, match=r"cannot read the model runs/judge \(ConnectionError: Name or service"):
            load("runs/judge")
        assert [name for name, _ in asked] == ["runs/judge"] and asked.pop()[1] <= 10


def test_texts_with_sources_can_be_judged_too(random: str) -> None:
    grouped = Cases(["s", "t"], [["a b c", "b"], ["", "c c a a b b"]], [("r",), ("r",)])
    assert GenPpl(model=random).score(grouped) == pytest.approx(GenPpl(model=random).score(sequences(*TEXTS)), rel=1e-6)
