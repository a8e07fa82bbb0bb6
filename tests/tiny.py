"""A tiny corpus, a tiny teacher and short runs, for tests of training."""

from pathlib import Path
from typing import Any

from dlkit.data.grammar import write_corpus
from dlkit.recipe import Recipe
from dlkit.training.progress import Reporter

QUIET = Reporter(quiet=True)

SETTINGS: dict[str, Any] = {
    "batch_size": 4,
    "generator": {"lr": 1e-3},
    "critic": {"lr": 1e-3},
    "stages": [{"steps": 4}],
    "evaluation": {"every": 4, "metric": "bleu", "n_sources": 4, "num_samples": 1, "steps": None},
    "run": {"device": "cpu", "log_every": 1, "checkpoint_every": 4},
    "model": {
        "seq_len": 24,
        "tokenizer": "train:word:200",
        "overlong": "refuse",
        "space": {"name": "embedding", "dim": 8},
        "process": {"name": "gaussian", "schedule": {"name": "sqrt", "steps": 50}},
        "backbone": {
            "name": "diffuseq",
            "layers": 1,
            "hidden": 16,
            "heads": 2,
            "ff": 32,
            "time_dim": 8,
            "max_positions": 24,
            "dropout": 0.0,
            "attention_dropout": 0.0,
        },
    },
    "fit": {"steps": 8, "batch_size": 8, "optimizer": {"lr": 1e-3, "betas": [0.9, 0.999]}, "ema": 0.9},
}


def recipe(**changes: Any) -> Recipe:
    """The tiny Recipe with some sections changed; a mapping is merged into the section's."""
    return Recipe.from_dict(merged(SETTINGS, changes))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` put in, mappings key by key."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict) and "name" not in value
        result[key] = merged(result[key], value) if both else value
    return result


def corpus(folder: Path) -> Path:
    """A data folder with a few dozen pairs of the built-in grammar."""
    write_corpus(folder, n_train=40, n_valid=8, n_test=8)
    return folder


def run_fit(data: Path, out: Path, seed: int = 0, resume: bool = False, **changes: Any) -> Path:
    """Fit a tiny teacher; its folder. At module level, so that a child process can be told to run it."""
    from dlkit.training.fit import fit

    return fit(recipe(**changes), data, out, seed=seed, resume=resume, reporter=QUIET).teacher


def run_distill(teacher: Path, data: Path, out: Path, seed: int = 0, resume: bool = False, **changes: Any) -> Path:
    """Distil the tiny teacher; the student's folder."""
    from dlkit.training.distill import distill

    return distill(recipe(**changes), teacher, data, out, seed=seed, resume=resume, reporter=QUIET).student


def weights(folder: Path) -> bytes:
    """The weight file of a model folder."""
    return (folder / "model.safetensors").read_bytes()
