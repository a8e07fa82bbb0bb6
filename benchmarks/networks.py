"""Models of the sizes that the benchmarks are about, with random weights from a fixed seed."""

import random

import tokenizers

from dlkit.data.tokenizer import SPECIALS, Tokenizer
from dlkit.denoiser import Denoiser
from dlkit.generator import Architecture, OneStepGenerator, Teacher
from dlkit.recipe import Recipe

Size = tuple[int, int, int, int]
"""Layers, hidden width, heads, width of the feed-forward half."""

BASE: Size = (12, 768, 12, 3072)
"""BERT-base."""
SMALL: Size = (4, 512, 8, 2048)
"""BERT-small."""
VOCAB = 30_522
"""Tokens of bert-base-uncased."""
DIM = 128
"""Width of DiffuSeq's embeddings, and so of its states."""
STEPS = 2000
"""Steps of DiffuSeq's process."""


def architecture(
    layers: int, hidden: int, heads: int, ff: int, vocab: int = VOCAB, length: int = 128, sampler: str = "ancestral"
) -> Architecture:
    """DiffuSeq's model at a given size: embeddings of width 128, sqrt schedule of 2,000 steps; no dropout."""
    sizes = {"layers": layers, "hidden": hidden, "heads": heads, "ff": ff, "max_positions": max(512, length)}
    return Architecture(
        family="diffuseq",
        space={"name": "embedding", "dim": DIM},
        process={"name": "gaussian", "schedule": {"name": "sqrt", "steps": STEPS}},
        backbone={"name": "diffuseq", "dropout": 0.0, "attention_dropout": 0.0, **sizes},
        decoder="nearest",
        sampler=sampler,
        vocab_size=vocab,
        seq_len=length,
    )


def denoiser(
    layers: int, hidden: int, heads: int, ff: int, vocab: int = VOCAB, length: int = 128, seed: int = 0
) -> Denoiser:
    """The network of :func:`architecture`, ready to be asked."""
    return architecture(layers, hidden, heads, ff, vocab, length).build(seed).eval()


def teacher(layers: int, hidden: int, heads: int, ff: int, vocab: int = VOCAB, length: int = 128) -> Teacher:
    """A teacher around :func:`denoiser`."""
    made = architecture(layers, hidden, heads, ff, vocab, length)
    return Teacher(made.build(), tokenizer(vocab), made, Recipe())


def student(layers: int, hidden: int, heads: int, ff: int, vocab: int = VOCAB, length: int = 128) -> OneStepGenerator:
    """A one-step student around :func:`denoiser`."""
    made = architecture(layers, hidden, heads, ff, vocab, length, sampler="one_step")
    return OneStepGenerator(made.build(), tokenizer(vocab), made, Recipe())


def tokenizer(vocab: int = VOCAB) -> Tokenizer:
    """BERT's special tokens and the words ``w5``, ``w6``, ..., one id each."""
    tokens = [*SPECIALS, *(f"w{k}" for k in range(len(SPECIALS), vocab))]
    model = tokenizers.models.WordPiece({token: k for k, token in enumerate(tokens)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    return Tokenizer(backend)


def texts(count: int, words: int, vocab: int = VOCAB, seed: int = 0) -> list[str]:
    """Texts of so many words each, drawn evenly from :func:`tokenizer`'s."""
    rng = random.Random(seed)
    return [" ".join(f"w{rng.randrange(len(SPECIALS), vocab)}" for _ in range(words)) for _ in range(count)]
