"""The settings of a BERT transformer that its weights do not tell: heads, activation, epsilon."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from dlkit.errors import UserError
from dlkit.files import read_json
from dlkit.part import validated
from dlkit.teachers._base import ReadOptions
from dlkit.teachers._diffuseq_run import DiffuseqRun

CONFIGS = ("bert_config.json", "config.json")
_KNOWN = {"bert-base": (768, 12), "bert-large": (1024, 16)}
_HEAD = 64  # the width of a head in every published BERT


class BertConfig(BaseModel):
    """A transformer's own configuration file, as far as it matters here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int
    max_position_embeddings: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    attention_probs_dropout_prob: float = Field(default=0.1, ge=0, lt=1)


@dataclass(frozen=True)
class Attention:
    """What weights do not tell.

    Attributes:
        heads: of attention.
        dropout: of attention weights.
        note: where the number of heads is from.
    """

    heads: int
    dropout: float
    note: str


def attention(run: DiffuseqRun, sizes: dict[str, int], options: ReadOptions) -> Attention:
    """Heads from the user, a local configuration, a known name, or 64 columns each, in this order.

    Args:
        sizes: ``layers``, ``hidden``, ``ff`` and ``max_positions`` of the weights, which a configuration must match.

    Raises:
        UserError: nothing tells the number, it does not divide the hidden width, or the configuration is of another
            network.
    """
    file = _local_config(run)
    config = None if file is None else _read(file, sizes)
    dropout = 0.1 if config is None else config.attention_probs_dropout_prob
    heads, origin = options.heads, "as given"
    if heads is None and config is not None and file is not None:
        heads, origin = config.num_attention_heads, f"from {file}"
    if heads is None:
        heads, origin = _by_name(run.arguments.config_name, sizes["hidden"])
    if heads < 1 or sizes["hidden"] % heads:
        raise UserError(f"{run.file}: {heads} heads do not divide its hidden width {sizes['hidden']}; give --heads")
    return Attention(heads, dropout, f"heads: {heads}, {origin}")


def _by_name(name: str, hidden: int) -> tuple[int, str]:
    for known, (width, heads) in _KNOWN.items():
        if Path(name).name.startswith(known) and width == hidden:
            return heads, f"known of {name!r}"
    if hidden % _HEAD:
        raise UserError(
            f"the number of attention heads is not in the weights, and {name!r} is not known; give --heads, "
            f"or put its {CONFIGS[0]} beside the checkpoint"
        )
    return hidden // _HEAD, f"assumed: {_HEAD} columns each, as in BERT ({name!r} is not known; --heads says otherwise)"


def _local_config(run: DiffuseqRun) -> Path | None:
    """In the run folder, or where ``config_name`` leads."""
    named = run.local(run.arguments.config_name)
    places = [
        *(run.folder / name for name in CONFIGS),
        *((named, *(named / name for name in CONFIGS)) if named else ()),
    ]
    return next((place for place in places if place.is_file()), None)


def _read(file: Path, sizes: dict[str, int]) -> BertConfig:
    config = validated(BertConfig, read_json(file), str(file))
    told = {
        "hidden_size": sizes["hidden"],
        "num_hidden_layers": sizes["layers"],
        "intermediate_size": sizes["ff"],
        "max_position_embeddings": sizes["max_positions"],
    }
    for name, size in told.items():
        if getattr(config, name) != size:
            raise UserError(
                f"{file} says {name}={getattr(config, name)}, the weights say {size}; restore the right file"
            )
    for name, value in {"hidden_act": "gelu", "layer_norm_eps": 1e-12}.items():
        if getattr(config, name) != value:
            raise UserError(f"{file}: {name}={getattr(config, name)!r} is not supported; only {name}={value!r} is")
    return config
