"""Models of the sizes that the benchmarks are about, with random weights from a fixed seed."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from dlkit import recipes
from dlkit.data.pairs import Pair, write_split
from dlkit.data.tokenizer import SPECIALS, Tokenizer
from dlkit.denoiser import Denoiser
from dlkit.generator import Architecture, OneStepGenerator, Teacher
from dlkit.recipe import Recipe
from dlkit.training.distill import Distiller
from dlkit.training.engine import TorchEngine
from dlkit.training.folder import RunFolder
from dlkit.training.progress import Reporter
from dlkit.training.stage import StageRun

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


def flops(made: Architecture, texts: int, rounded: bool = False) -> float:
    """Of one forward pass: matrix products and attention; with rounding, the scores of all tokens too."""
    spec: Any = made.backbone
    dim, hidden = made.space.dim, spec.hidden  # type: ignore[attr-defined]
    layer = 4 * hidden**2 + 2 * hidden * spec.ff + 2 * made.seq_len * hidden
    ends = 2 * dim * hidden + 2 * hidden**2
    return 2.0 * texts * made.seq_len * (spec.layers * layer + ends + rounded * made.vocab_size * dim)


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


def stage(made: Teacher, folder: Path, settings: Sequence[str], engine: type[TorchEngine] = TorchEngine) -> StageRun:
    """The first stage of a distillation of a teacher by the Recipe ``dlm_one_qqp`` with other settings.

    Half of a sequence is given. Nothing is read but pairs of words, and nothing is written but the run's folder.
    """
    words = made.architecture.seq_len // 2 - 3
    sources, targets = (texts(64, words, made.architecture.vocab_size, seed) for seed in (0, 1))
    pairs = [Pair(source, (target,)) for source, target in zip(sources, targets, strict=True)]
    for split in ("train", "valid"):
        write_split(folder / f"data/{split}.jsonl", pairs)
    recipe = recipes.get("dlm_one_qqp").with_settings(["run.device=cpu", "run.precision=fp32", *settings])
    run = RunFolder(folder / "run", "distill", recipe, {}, resume=False)
    quiet = Reporter(quiet=True)
    begun = StageRun(Distiller(recipe, made, folder / "data", engine(recipe.run), 0, run, quiet), 0, None)
    begun.prepare()
    return begun
