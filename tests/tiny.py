"""A tiny corpus, a tiny teacher and short runs, for tests of training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dlkit.data.grammar import write_corpus
from dlkit.generator import load_teacher
from dlkit.recipe import Recipe, Run
from dlkit.testing._material import with_critic
from dlkit.training.distill import Distiller, distill
from dlkit.training.engine import TorchEngine
from dlkit.training.fit import Fitter, fit
from dlkit.training.folder import RunFolder
from dlkit.training.progress import Reporter

QUIET = Reporter(quiet=True)

SETTINGS: dict[str, Any] = {
    "batch_size": 4,
    "generator": {"lr": 1e-3},
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
    return with_critic(merged(SETTINGS, changes))


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
    return fit(recipe(**changes), data, out, seed=seed, resume=resume, reporter=QUIET).teacher


def run_distill(teacher: Path, data: Path, out: Path, seed: int = 0, resume: bool = False, **changes: Any) -> Path:
    """Distil the tiny teacher; the student's folder."""
    return distill(recipe(**changes), teacher, data, out, seed=seed, resume=resume, reporter=QUIET).student


def weights(folder: Path) -> bytes:
    """The weight file of a model folder."""
    return (folder / "model.safetensors").read_bytes()


class WatchedEngine(TorchEngine):
    """Tells a watcher of every optimiser step before it is taken, while the gradients are there."""

    def __init__(self, watch: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None) -> None:
        super().__init__(Run(device="cpu"))
        self.watch = watch

    def step(self, optimizer: torch.optim.Optimizer, clip: float | None) -> torch.Tensor:
        self.watch(optimizer)
        return super().step(optimizer, clip)


def distiller(teacher: Path, data: Path, out: Path, engine: TorchEngine | None = None, **changes: Any) -> Distiller:
    """A distillation at its beginning."""
    return distiller_of(recipe(**changes), teacher, data, out, engine or WatchedEngine())


def distiller_of(made: Recipe, teacher: Path, data: Path, out: Path, engine: TorchEngine) -> Distiller:
    """The distillation of a whole Recipe at its beginning."""
    folder = RunFolder(out, "distill", made, {}, resume=False)
    folder.rewind(0)
    return Distiller(made, load_teacher(teacher), data, engine, 0, folder, QUIET)


def fitter(data: Path, out: Path, engine: TorchEngine | None = None, **changes: Any) -> Fitter:
    """A fit at its beginning."""
    made = recipe(**changes)
    folder = RunFolder(out, "train", made, {}, resume=False)
    return Fitter(made, data, engine or WatchedEngine(), 0, folder, QUIET)


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
