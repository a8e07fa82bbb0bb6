"""Small things that parts are tried on."""

import atexit
import dataclasses
import functools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load, save
from torch import Tensor, nn

from dlkit.data.grammar import write_corpus
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.randomness import Stream
from dlkit.recipe import Recipe
from dlkit.recipe.settings import UNFINISHED
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.training.distill import distill
from dlkit.training.fit import fit
from dlkit.training.progress import Reporter

BATCH, LENGTH, DIM, HIDDEN, VOCABULARY = 4, 6, 8, 12, 24
QUIET = Reporter(quiet=True)
SOURCES = ("where are books sold in paris ?", "is it wet in rome in may ?", "who sells bikes in oslo ?")
SMALL: dict[str, Any] = {
    "batch_size": 4,
    "generator": {"lr": 1e-3},
    "evaluation": {"every": 1000, "metric": "bleu", "n_sources": 2, "num_samples": 1},
    "run": {"device": "cpu", "log_every": 1, "checkpoint_every": 1000},
    "model": {
        "seq_len": 24,
        "tokenizer": "train:word:200",
        "overlong": "truncate",
        "space": {"name": "embedding", "dim": DIM},
        "process": {"name": "gaussian", "schedule": {"name": "sqrt", "steps": 50}},
        "backbone": {
            **{"name": "diffuseq", "layers": 1, "hidden": 16, "heads": 2, "ff": 32, "time_dim": 8},
            **{"max_positions": 24, "dropout": 0.0, "attention_dropout": 0.0},
        },
    },
    "fit": {"steps": 4, "batch_size": 8, "optimizer": {"lr": 1e-3}},
}


class Pointwise(nn.Module):
    """A network whose output at a position depends on nothing but that position and the time."""

    feature_dim = HIDDEN

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up, self.clock, self.down = nn.Linear(dim, HIDDEN), nn.Linear(1, HIDDEN), nn.Linear(HIDDEN, dim)

    def forward(self, x: Tensor, time: Tensor, taps: Any = None) -> tuple[Tensor, Tensor | None]:
        """x0 and, if they are asked for, features."""
        h = torch.tanh(self.up(x) + self.clock(time.to(x.dtype)[:, None] / 1000.0)[:, None])
        return self.down(h), None if taps is None else torch.cat([h] * len(taps), dim=-1)


def process(steps: int = 50) -> GaussianProcess:
    """DiffuSeq's process with few steps."""
    return GaussianProcess.model_validate({"schedule": {"name": "sqrt", "steps": steps}})


def process_by_position(positions: int) -> GaussianProcess:
    """A process in which each of so many positions has noise of its own, the last ones most."""
    rows = [[math.exp(-(1 + n) * (0.1 + 1.9 * i / 49) ** 2) for n in range(positions)] for i in range(50)]
    return GaussianProcess.model_validate({"schedule": {"name": "per_position", "table": rows}})


def pointwise_denoiser(seed: int = 0, forward: GaussianProcess | None = None) -> Denoiser:
    """A float64 denoiser with a :class:`Pointwise` network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(EmbeddingSpace(VOCABULARY, DIM), forward or process(), Pointwise(DIM)).double().eval()


def denoiser(backbone: nn.Module | None = None, forward: GaussianProcess | None = None) -> Denoiser:
    """A float32 denoiser in whose network positions see each other, unless it is given another one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        space = EmbeddingSpace(VOCABULARY, DIM)
        network = backbone or recipe().model.backbone.build(DIM, VOCABULARY)
        prediction = "logits" if getattr(network, "own_logits", False) else "x0"
        return Denoiser(space, forward or process(), network, prediction).eval()


def mask() -> Bool[Tensor, "b l"]:
    """Generated positions: some in each sample, and not the same ones."""
    return torch.arange(LENGTH) >= torch.tensor([2, 3, 1, 4])[:, None]


def times() -> Float[Tensor, " b"]:
    return torch.tensor([0.1, 0.42, 0.7, 0.98], dtype=torch.float64)


def normal(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "b ..."]:
    """Standard normal numbers that belong to a name."""
    return Stream(0, f"testing/{name}").normal(torch.arange(BATCH), *(shape or (LENGTH, DIM))).to(dtype)


def anchor(dtype: torch.dtype = torch.float32) -> Float[Tensor, "b l d"]:
    """States of the given positions."""
    return normal("anchor", dtype=dtype)


def condition(dtype: torch.dtype = torch.float32) -> Condition:
    return Condition(anchor(dtype), mask())


def seeded(build: Any, *arguments: Any, seed: int = 0) -> Any:
    """What ``build`` makes where torch's generator has the given seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)


def begun(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with its weights that begin as 0 drawn anew: as they are, a network may say the same of everything."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.2)
    return module


def stored(module: nn.Module) -> dict[str, Tensor]:
    """The weights after they were written to a safetensors file and read again."""
    return load(save({name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()}))


def recipe(**changes: Any) -> Recipe:
    """A Recipe of a second's training, with some settings changed: ``objective="sid", model={"family": "mine"}``."""
    return with_critic(_merged(SMALL, changes))


def with_critic(data: dict[str, Any]) -> Recipe:
    """The Recipe of plain data, whose critic learns fast unless they say otherwise, if one learns in any stage."""
    asked: Recipe = Recipe.model_validate(data, context=UNFINISHED)
    learns = any(asked.has_critic(number) for number in range(len(asked.stages)))
    return Recipe.from_dict(_merged({"critic": {"lr": 1e-3}}, data) if learns else data)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **changes}
    for key in base.keys() & changes.keys():
        if isinstance(base[key], dict) and isinstance(changes[key], dict) and "name" not in changes[key]:
            merged[key] = _merged(base[key], changes[key])
    return merged


@functools.cache
def _folder() -> Path:
    """A folder for what is made once; gone when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="dlkit-testing-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@functools.cache
def corpus() -> Path:
    """A few dozen pairs of the built-in grammar."""
    write_corpus(_folder() / "data", n_train=40, n_valid=4, n_test=8)
    return _folder() / "data"


@functools.cache
def teacher() -> Path:
    """A teacher that was hardly trained."""
    return fit(recipe(), corpus(), _folder() / "fit", reporter=QUIET).teacher


def fitted(**changes: Any) -> Path:
    """The folder of a teacher fitted for a few steps with another Recipe."""
    return fit(recipe(**changes), corpus(), Path(tempfile.mkdtemp(dir=_folder())), reporter=QUIET).teacher


def distilled(steps: int, of: Path | None = None, **changes: Any) -> Path:
    """The folder of a student distilled for some steps, from :func:`teacher` unless another one's folder is given."""
    out = Path(tempfile.mkdtemp(dir=_folder()))
    made = recipe(stages=[{"steps": steps}], **changes)
    return distill(made, of or teacher(), corpus(), out, reporter=QUIET).student


@functools.cache
def flow_teacher() -> Path:
    """One whose network can take a second time."""
    backbone = {"name": "flm", "layers": 1, "hidden": 16, "heads": 2, "cond": 8, "dropout": 0.0}
    return fitted(model={"backbone": backbone, "prediction": "logits"})


@functools.cache
def mapped() -> Path:
    """A student of two times of that teacher."""
    return distilled(3, flow_teacher(), objective="psd")


def permuted(value: Any, order: Sequence[int]) -> Any:
    """A dataclass with the rows of all its tensors in another order, those of dataclasses in it too."""
    if isinstance(value, Tensor):
        return value[list(order)]
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return type(value)(**{name: permuted(each, order) for name, each in fields.items()})
    if callable(value):  # a source of noise
        return lambda *names: permuted(value(*names), order)
    return {} if isinstance(value, dict) else value  # a memo must not outlive what it remembers
