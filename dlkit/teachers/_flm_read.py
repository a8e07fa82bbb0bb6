"""From an official FLM checkpoint to a teacher's parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dlkit.backbones.flm import FlmSpec, Rotary
from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.decoders.nearest import Nearest
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.part import validated
from dlkit.samplers.euler import Euler
from dlkit.schedules.token_accuracy import TokenAccuracySchedule
from dlkit.spaces.one_hot import OneHotSpec
from dlkit.teachers._base import Key, Original, ReadOptions, TeacherParts
from dlkit.teachers._tensors import plain_weights
from dlkit.teachers._unpickle import StoredTensor, load_inert, plain

PREFIX, COMPILED, TEACHER = "backbone.", "_orig_mod.", "teacher"
ROTARY = "rotary_emb.inv_freq"
USUAL_LENGTH = 128
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
RESIDUAL = "flm_distill"  # the first stage of the first release: what it puts out is no denoiser

Shape = tuple[int, ...]


def read_checkpoint(path: Path, options: ReadOptions) -> Original:
    """Read a Lightning checkpoint of FLM, or the only one in a folder; nothing in it is executed.

    Raises:
        UserError: it is damaged, of another network, or its averaged weights are not those of its network; or its
            tokenizer is not known or of another size.
    """
    found = _Checkpoint.read(_file(path))
    backbone, vocab_size = found.backbone(options), found.sizes["vocab"]
    tokenizer, spec = _tokenizer(found, options)
    with torch.device("meta"):
        network = backbone.build(vocab_size, vocab_size)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    _refuse_others(found, shapes, options)
    order = [] if options.raw or found.ema is None else [name for name, _ in network.named_parameters()]
    taken = found.weights | (found.averages(order, shapes) if order else {})
    state = {f"{PREFIX}{name}": plain_weights(taken[name].read(), name, found.file) for name in shapes if name in taken}
    state.setdefault(f"{PREFIX}{ROTARY}", Rotary(backbone.hidden // backbone.heads).inv_freq)
    length = found.told("model", "length")
    parts = TeacherParts(
        space=OneHotSpec(),
        process=GaussianProcess.model_validate({"schedule": TokenAccuracySchedule(vocab_size=vocab_size)}),
        backbone=backbone,
        seq_len=length if isinstance(length, int) else USUAL_LENGTH,
        tokenizer=tokenizer,
        tokenizer_spec=spec,
        state=state,
        fit=_fit(found),
        prediction="logits",
        decoder=Nearest(),
        sampler=Euler(),
        layout="packed",
    )
    return Original(
        found.file, parts, _table(found, shapes, order), _notes(found, parts, bool(order)), _warnings(found, options)
    )


def _notes(found: "_Checkpoint", parts: TeacherParts, averaged: bool) -> tuple[str, ...]:
    sizes = ", ".join(f"{name} {size}" for name, size in found.sizes.items())
    return (
        f"sizes: {sizes}; seq_len {parts.seq_len}",
        f"times: {'two' if parts.backbone.spec()['two_times'] else 'one'}; "
        f"algorithm {found.told('algo', 'name') or 'unknown'}",
        f"weights: {'averaged (ema.shadow_params); --raw takes the others' if averaged else 'raw (state_dict)'}",
        f"tokenizer: {parts.tokenizer_spec}, {parts.tokenizer.vocab_size} ids",
    )


@dataclass(frozen=True)
class _Checkpoint:
    """What a file holds.

    Attributes:
        weights: of the backbone, by the names that they have in it.
        others: the other tensors, by the names that they have in the file; those of a frozen teacher are not among
            them.
        teachers: names of a frozen teacher's.
        ema: what should be the averaged weights, without names; None if there are none.
        settings: of the program that wrote it, as far as they are plain.
    """

    file: Path
    weights: dict[str, StoredTensor]
    others: dict[str, StoredTensor]
    teachers: dict[str, StoredTensor]
    ema: Any
    ema_decay: Any
    settings: Any
    step: Any

    @classmethod
    def read(cls, file: Path) -> "_Checkpoint":
        content = load_inert(file)
        state = content.get("state_dict") if isinstance(content, Mapping) else None
        if not isinstance(state, Mapping):
            raise UserError(f"{file} has no state_dict; it is no checkpoint that Lightning wrote")
        tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, StoredTensor)}
        groups: dict[str, dict[str, StoredTensor]] = {"weights": {}, "others": {}, "teachers": {}}
        for name, tensor in tensors.items():
            if name.startswith(PREFIX):
                inner = name.removeprefix(PREFIX).removeprefix(COMPILED)
                if inner in groups["weights"]:
                    raise UserError(f"{file} holds {PREFIX}{inner} and {PREFIX}{COMPILED}{inner}; keep one of the two")
                groups["weights"][inner] = tensor
            else:
                groups["teachers" if name.startswith(TEACHER) else "others"][name] = tensor
        ema = content.get("ema")
        averaged = ema if isinstance(ema, Mapping) else {}
        return cls(
            file,
            **groups,
            ema=None if ema is None else averaged.get("shadow_params") or (),
            ema_decay=averaged.get("decay"),
            settings=_settings(content, file),
            step=content.get("global_step"),
        )

    def told(self, *names: str) -> Any:
        """A setting of the program, or None."""
        node = self.settings.get("config", self.settings) if isinstance(self.settings, dict) else None
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        return node

    @property
    def sizes(self) -> dict[str, int]:
        """The network's sizes as its weights tell them."""
        layers = {name.split(".")[1] for name in self.weights if name.startswith("blocks.")}
        return {
            "vocab": self._size("vocab_embed.embedding", 0),
            "hidden": self._size("vocab_embed.embedding", 1),
            "cond": self._size("sigma_map.mlp.2.weight", 0),
            "layers": len(layers),
        }

    def backbone(self, options: ReadOptions) -> FlmSpec:
        """The network, of which weights tell all but the heads, the dropout and the cap of attention, FLM's 50."""
        sizes, dropout = self.sizes, self.told("model", "dropout")
        for ours, theirs in (("hidden", "hidden_size"), ("cond", "cond_dim"), ("layers", "n_blocks")):
            said = self.told("model", theirs)
            if isinstance(said, int) and said != sizes[ours]:
                raise UserError(f"{self.file}: its settings say {theirs}={said}, its weights say {sizes[ours]}")
        settings = {
            **{name: sizes[name] for name in ("layers", "hidden", "cond")},
            "heads": self._heads(options, sizes["hidden"]),
            "two_times": any(name.startswith("sigma_map_prime.") for name in self.weights),
            "loss_weighting": any(name.startswith("learnable_loss_weighting.") for name in self.weights),
            **({"dropout": dropout} if isinstance(dropout, float | int) else {}),
        }
        return validated(FlmSpec, settings, str(self.file))

    def _heads(self, options: ReadOptions, hidden: int) -> int:
        """By --heads, by the settings, or by the number of angles in a head."""
        angles = self.weights.get(ROTARY)
        said = options.heads or self.told("model", "n_heads")
        counted = None if angles is None or not angles.shape[0] else hidden // (2 * angles.shape[0])
        heads = said if isinstance(said, int) else counted
        if heads is None:
            raise UserError(f"{self.file} does not say how many attention heads there are; give --heads")
        if counted not in (None, heads):
            raise UserError(
                f"{self.file}: {heads} heads are said, but {ROTARY} is that of {counted}; leave --heads out"
            )
        return heads

    def _size(self, name: str, axis: int) -> int:
        tensor = self.weights.get(name)
        if tensor is None or len(tensor.shape) != 2:
            raise UserError(f"{self.file} lacks {PREFIX}{name}; it is no checkpoint of FLM")
        return tensor.shape[axis]

    def averages(self, order: list[str], shapes: dict[str, Shape]) -> dict[str, StoredTensor]:
        """The averaged weights by name: they lie in the order of the network's parameters."""
        ema = self.ema
        if not isinstance(ema, list | tuple) or not ema:
            raise UserError(
                f"{self.file}: its ema has no list shadow_params (--raw takes the weights that are not averaged)"
            )
        if len(ema) != len(order):
            raise UserError(
                f"{self.file}: ema.shadow_params has {len(ema)} tensors, the network {len(order)} parameters; they are "
                "of another network (--raw takes the weights that are not averaged)"
            )
        for number, (name, tensor) in enumerate(zip(order, ema, strict=True)):
            shape = tensor.shape if isinstance(tensor, StoredTensor) else None
            if shape != shapes[name]:
                raise UserError(
                    f"{self.file}: ema.shadow_params[{number}] has shape {shape}, but {name} in its place has "
                    f"{shapes[name]}; they are of another network (--raw takes the weights that are not averaged)"
                )
        return dict(zip(order, ema, strict=True))


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.ckpt"))
    if len(files) != 1:
        raise UserError(f"{path} has {len(files)} .ckpt files; name the one to read")
    return files[0]


def _settings(content: Mapping[str, Any], file: Path) -> Any:
    """The plain ones among the program's settings."""
    try:
        return plain(content.get("hyper_parameters"))
    except RecursionError:
        raise UserError(
            f"{file}: its hyper_parameters contain themselves or lie too deep; save it without them, and give --heads "
            "and --tokenizer"
        ) from None


def _refuse_others(found: _Checkpoint, shapes: dict[str, Shape], options: ReadOptions) -> None:
    """Raise ``UserError`` for weights that are missing, unknown or of another shape."""
    missing = [name for name in shapes if name not in found.weights and name != ROTARY]
    unknown = [*(name for name in found.weights if name not in shapes), *found.others]
    if missing:
        raise UserError(f"{found.file} lacks {PREFIX}{missing[0]}; it is cut short or no checkpoint of FLM")
    if unknown and not options.allow_unused:
        raise UserError(f"{found.file} has {unknown[0]}, which is unknown; --allow-unused leaves out what has no place")
    for name, tensor in found.weights.items():
        if name in shapes and tensor.shape != shapes[name]:
            raise UserError(
                f"{found.file}: {name} has shape {tensor.shape}, but its other tensors imply {shapes[name]}"
            )


def _tokenizer(found: _Checkpoint, options: ReadOptions) -> tuple[Tokenizer, str]:
    """By --tokenizer, from the file beside the checkpoint, or by the name in its settings; of as many ids."""
    beside = next((str(found.file.parent / name) for name in TOKENIZERS if (found.file.parent / name).is_file()), None)
    spec = options.tokenizer or beside or found.told("data", "tokenizer_name_or_path")
    if not isinstance(spec, str) or not spec:
        raise UserError(f"{found.file} does not name its tokenizer; give --tokenizer")
    tokenizer, wanted = make_tokenizer(spec), found.sizes["vocab"]
    if tokenizer.vocab_size != wanted:
        raise UserError(
            f"the tokenizer {spec} has {tokenizer.vocab_size} ids, the embedding of {found.file} {wanted}; "
            "give the tokenizer the model was trained with by --tokenizer"
        )
    return tokenizer, spec


def _fit(found: _Checkpoint) -> dict[str, Any]:
    """How it was fitted, as far as its settings tell it."""
    told = found.told
    beta1, beta2 = told("optim", "beta1"), told("optim", "beta2")
    optimizer = {
        "lr": told("optim", "lr"),
        "betas": [beta1, beta2] if beta1 is not None and beta2 is not None else None,
        "eps": told("optim", "eps"),
        "weight_decay": told("optim", "weight_decay"),
        "clip": told("trainer", "gradient_clip_val") or None,
        "warmup": told("lr_scheduler", "num_warmup_steps"),
    }
    fit = {
        "steps": found.step or None,
        "batch_size": told("loader", "global_batch_size"),
        "ema": found.ema_decay,
        "time_sampler": "stratified" if told("training", "antithetic_sampling") else None,
        "optimizer": {"decay": "constant"} | _known(optimizer),
    }
    return _known(fit)


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _table(found: _Checkpoint, shapes: dict[str, Shape], averaged: list[str]) -> tuple[Key, ...]:
    """What became of every tensor but those of the optimiser."""

    def of(name: str, tensor: StoredTensor) -> Key:
        if name not in shapes:
            return Key(f"{PREFIX}{name}", "unused", tensor.shape, "--allow-unused")
        if name in averaged:
            return Key(f"{PREFIX}{name}", "ignored", tensor.shape, "its average is taken")
        return Key(f"{PREFIX}{name}", "used", tensor.shape)

    return (
        *(of(name, tensor) for name, tensor in found.weights.items()),
        *(Key(f"ema.shadow_params[{n}]", "used", shapes[name], name) for n, name in enumerate(averaged)),
        *(Key(name, "ignored", tensor.shape, "a frozen teacher's") for name, tensor in found.teachers.items()),
        *(Key(name, "unused", tensor.shape, "--allow-unused") for name, tensor in found.others.items()),
    )


def _warnings(found: _Checkpoint, options: ReadOptions) -> tuple[str, ...]:
    said = []
    if not isinstance(found.told("model", "length"), int):
        said.append(f"the length of a sequence is not told; {USUAL_LENGTH} is assumed")
    if found.ema is None and not options.raw:
        said.append("there are no averaged weights; the others are taken")
    if found.told("algo", "name") == RESIDUAL:
        said.append(
            "this network puts out what a flow model lacks on its way (stage 1 of FLM's first release), no text"
        )
    return tuple(said)
