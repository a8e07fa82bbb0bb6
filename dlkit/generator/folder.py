"""A model folder: where it is, what it says, and that it is whole."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from dlkit.data.tokenizer import Tokenizer
from dlkit.denoiser import Denoiser
from dlkit.errors import UserError
from dlkit.files import read_json
from dlkit.generator.architecture import Architecture
from dlkit.part import validated
from dlkit.plugins import check_installed
from dlkit.recipe import Recipe

WEIGHTS = "model.safetensors"
RECIPE = "recipe.yaml"


def read_model(folder: Path, kind: str) -> tuple[Denoiser, Tokenizer, Architecture, Recipe]:
    """What a folder holds.

    Args:
        folder: with ``config.json``.
        kind: of model that it is to hold; empty for any.

    Raises:
        UserError: the folder is of another kind, incomplete or damaged, or needs a plugin that is not installed.
    """
    config = read_config(folder)
    if config.get("format") != 1:
        found = config.get("format")
        raise UserError(f"{folder / 'config.json'} has format {found!r}; this version reads format 1")
    if kind and config.get("kind") != kind:
        raise UserError(f"{folder} holds a {config.get('kind')}, not a {kind}; give the folder of a {kind}")
    check_installed(config.get("plugins"), str(folder))
    architecture = _architecture(config, folder)
    _refuse_differences(_implied(architecture), _stored(folder / WEIGHTS), folder / WEIGHTS)
    denoiser = architecture.build()
    _load_weights(denoiser, folder / WEIGHTS)
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > architecture.vocab_size:
        raise UserError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} ids, its network {architecture.vocab_size}; "
            "restore the tokenizer the model was trained with"
        )
    return denoiser, tokenizer, architecture, Recipe.from_yaml(folder / RECIPE, record=True)


def model_folder(path: str | Path) -> Path:
    """The folder with ``config.json``: ``path`` itself, or the ``teacher`` or ``student`` below a run folder.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    for folder in (path, path / "student", path / "teacher"):
        if (folder / "config.json").is_file():
            return folder
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder of a model")
    raise UserError(f"{path} is not a model folder: it has no config.json; give the --out folder of a finished run")


def read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'} is not a model's: it holds no keys; restore the file from a copy")
    return config


def _architecture(config: dict[str, Any], folder: Path) -> Architecture:
    fields = {key: value for key, value in config.items() if key in Architecture.model_fields}
    required = {key for key, field in Architecture.model_fields.items() if field.is_required()}
    missing = sorted(required - fields.keys())
    if missing:
        raise UserError(f"{folder / 'config.json'} lacks {', '.join(missing)}; restore the file from a copy")
    return validated(Architecture, fields, str(folder / "config.json"))


Shapes = dict[str, tuple[int, ...]]


def _implied(architecture: Architecture) -> Shapes:
    """The tensors that a network of this architecture has; no memory is taken for them."""
    with torch.device("meta"):
        denoiser = architecture.build()
    state = denoiser.state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if name not in aliases(denoiser)}


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Tell the user of errors that a file of weights makes."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{file} is missing; the model folder is incomplete") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged or cut short ({error}); copy it again from its source") from None


def _stored(file: Path) -> Shapes:
    """The tensors that a file says it holds."""
    with _reading(file), safe_open(file, "pt") as stored:
        return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118


def _refuse_differences(wanted: Shapes, found: Shapes, file: Path) -> None:
    """Refuse missing, unknown and misshapen tensors, before a network as large as config.json says is built."""
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unknown:
        found_out = {"lacks": missing, "has the unknown": unknown}
        complaints = [f"{verb} {_some(names)}" for verb, names in found_out.items() if names]
        raise UserError(f"{file} {' and '.join(complaints)}; it does not belong to this config.json")
    for name, shape in wanted.items():
        if shape != found[name]:
            raise UserError(f"{file}: {name} has shape {found[name]}, config.json implies {shape}")


def _load_weights(denoiser: Denoiser, file: Path) -> None:
    with _reading(file):
        state = load_file(file)
    denoiser.load_state_dict({**state, **{name: state[of] for name, of in aliases(denoiser).items()}})


def aliases(denoiser: Denoiser) -> dict[str, str]:
    """Entries of the state that a folder does not store, and which entry each is."""
    return {f"space.{name}": f"space.{of}" for name, of in denoiser.space.aliases.items()}


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
