"""Networks of the sizes that the benchmarks are about, with random weights from a fixed seed."""

from dlkit.denoiser import Denoiser
from dlkit.generator import Architecture

BASE = (12, 768, 12, 3072)
"""BERT-base: layers, hidden width, heads, width of the feed-forward half."""
SMALL = (4, 512, 8, 2048)
"""BERT-small."""
VOCAB = 30_522
"""Tokens of bert-base-uncased."""
DIM = 128
"""Width of DiffuSeq's embeddings, and so of its states."""


def architecture(
    layers: int, hidden: int, heads: int, ff: int, vocab: int = VOCAB, length: int = 128, sampler: str = "ancestral"
) -> Architecture:
    """DiffuSeq's network at a given size: embeddings of width 128, sqrt schedule of 2,000 steps, no dropout."""
    sizes = {"layers": layers, "hidden": hidden, "heads": heads, "ff": ff, "max_positions": max(512, length)}
    return Architecture(
        family="diffuseq",
        space={"name": "embedding", "dim": DIM},
        process={"name": "gaussian", "schedule": {"name": "sqrt", "steps": 2000}},
        backbone={"name": "diffuseq", "dropout": 0.0, "attention_dropout": 0.0, **sizes},
        decoder="nearest",
        sampler=sampler,
        vocab_size=vocab,
        seq_len=length,
    )


def denoiser(
    layers: int, hidden: int, heads: int, ff: int, vocab: int = VOCAB, length: int = 128, seed: int = 0
) -> Denoiser:
    """The network of :func:`architecture`, ready to be asked and to be trained."""
    return architecture(layers, hidden, heads, ff, vocab, length).build(seed).eval()
