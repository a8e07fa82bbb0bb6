"""A teacher as a run folder of DiffuSeq's own code."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.errors import UserError
from dlkit.files import write_json
from dlkit.spaces.embedding import EmbeddingSpec
from dlkit.teachers._base import TeacherParts
from dlkit.teachers._diffuseq_read import POSITIONS, TIME_SAMPLERS, official_name
from dlkit.teachers._diffuseq_run import ARGUMENTS, VOCABULARY, Beside

BERT_CONFIG = "config.json"
WORDS = "vocab.txt"  # what the original's program reads: a word a line, without the special ones before them
N_SPECIALS = 4
OFFICIAL_VOCABULARY = 30522
SCHEDULES = ("sqrt", "cosine", "linear", "trunc_cos", "trunc_lin", "pw_lin")
OFFICIAL_BERT = {"hidden": 768, "layers": 12, "heads": 12, "ff": 3072, "max_positions": 512}


def write_run(folder: Path, parts: TeacherParts) -> None:
    """Write ``ema_RATE_STEP.pt``, ``training_args.json``, the vocabulary and the transformer's configuration.

    The tied table is written under both of its names.

    Raises:
        UserError: the original's code has no such space, process, backbone, prediction or schedule.
    """
    space, process, backbone = _official(parts)
    fit, own_words = parts.fit, parts.tokenizer.has_own_words
    torch.save(official_order(parts.state), folder / f"ema_{fit['ema']}_{fit['steps']:06d}.pt")
    arguments = {
        **_fitted(fit),
        "diffusion_steps": process.noise_schedule.spec()["steps"],
        "noise_schedule": process.noise_schedule.registered_name,
        "timestep_respacing": "",
        "vocab": WORDS if own_words else "bert",
        "checkpoint_path": ".",
        "use_plm_init": "no",
        "vocab_size": parts.tokenizer.vocab_size,
        "config_name": _config_name(backbone, parts.tokenizer.vocab_size, own_words),
        "seq_len": parts.seq_len,
        "hidden_t_dim": backbone.time_dim,
        "hidden_dim": space.dim,
        "dropout": backbone.dropout,
        **_of_second_version(process),
        **_beside(parts),
        **_PUBLISHED,
    }
    write_json(folder / ARGUMENTS, arguments)
    if own_words:
        words = parts.tokenizer.vocabulary()
        (folder / VOCABULARY).write_text(json.dumps(words), encoding="utf-8")
        (folder / WORDS).write_text("".join(f"{word}\n" for word in list(words)[N_SPECIALS:]), encoding="utf-8")
    else:
        parts.tokenizer.save(folder)
    write_json(folder / BERT_CONFIG, _bert_config(backbone, parts.tokenizer.vocab_size))


_PUBLISHED = {
    "learn_sigma": False,
    "use_kl": False,
    "predict_xstart": True,
    "rescale_timesteps": True,
    "rescale_learned_sigmas": False,
    "sigma_small": False,
    "emb_scale_factor": 1.0,
}


def _of_second_version(process: GaussianProcess) -> dict[str, Any]:
    """What DiffuSeq-v2's arguments say beside the others."""
    if not isinstance(process, MeanShift):
        return {}
    return {"learned_mean_embed": True, "denoise": process.absorb_rate > 0, "denoise_rate": process.absorb_rate}


def _beside(parts: TeacherParts) -> dict[str, Any]:
    """What the original has no words for, where it is not as import would have it."""
    usual = {"family": "diffuseq", "decoder": "linear_head", "sampler": "ddim", "overlong": "truncate"}
    plain = Beside.model_validate(usual).model_dump(mode="json")
    found = Beside.model_validate({name: getattr(parts, name) for name in usual}).model_dump(mode="json")
    said = {name: value for name, value in found.items() if value not in (None, plain[name])}
    return {"dlkit": said} if said else {}


def official_order(state: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The weights under the original's names, the buffer of positions first as there."""
    named = {official_name(name): tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return OrderedDict([(POSITIONS, named.pop(POSITIONS)), *named.items()])


def _official(parts: TeacherParts) -> tuple[EmbeddingSpec, GaussianProcess, DiffuseqSpec]:
    """The parts, if they are those that the original's code has."""
    space, process, backbone = parts.space, parts.process, parts.backbone
    if not isinstance(space, EmbeddingSpec):
        raise UserError(_no_place("space", space.registered_name))
    if not isinstance(process, GaussianProcess):
        raise UserError(_no_place("process", process.registered_name))
    if not isinstance(backbone, DiffuseqSpec):
        raise UserError(_no_place("backbone", backbone.registered_name))
    if parts.prediction != "x0":
        raise UserError(_no_place("prediction", parts.prediction))
    if process.noise_schedule.registered_name not in SCHEDULES:
        raise UserError(_no_place("schedule", process.noise_schedule.registered_name))
    return space, process, backbone


def _no_place(kind: str, name: str) -> str:
    return f"the format diffuseq has no place for the {kind} {name!r}; only teachers of DiffuSeq's own parts fit"


def _fitted(fit: dict[str, Any]) -> dict[str, Any]:
    """The section ``fit`` of a Recipe in the original's words."""
    optimizer = fit["optimizer"]
    samplers = {ours: theirs for theirs, ours in TIME_SAMPLERS.items()}
    times = fit["time_sampler"]["name"]
    if times not in samplers:
        raise UserError(_no_place("time sampler", times))
    guidable = {"condition_dropout": fit["condition_dropout"]} if fit["condition_dropout"] else {}
    return {
        **guidable,
        "lr": optimizer["lr"],
        "batch_size": fit["batch_size"],
        "microbatch": fit["microbatch"] or fit["batch_size"],
        "learning_steps": fit["steps"],
        "ema_rate": str(fit["ema"]),
        "schedule_sampler": samplers[times],
        "weight_decay": optimizer["weight_decay"],
        "gradient_clipping": optimizer["clip"] or -1.0,
    }


def _config_name(backbone: DiffuseqSpec, vocab_size: int, own_words: bool) -> str:
    """The published model where configuration and tokenizer are its own, else the run folder itself."""
    sizes = {name: getattr(backbone, name) for name in OFFICIAL_BERT}
    same = sizes == OFFICIAL_BERT and (own_words or vocab_size == OFFICIAL_VOCABULARY)
    return "bert-base-uncased" if same else "."


def _bert_config(backbone: DiffuseqSpec, vocab_size: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "hidden_act": "gelu",
        "hidden_size": backbone.hidden,
        "num_hidden_layers": backbone.layers,
        "num_attention_heads": backbone.heads,
        "intermediate_size": backbone.ff,
        "max_position_embeddings": backbone.max_positions,
        "vocab_size": vocab_size,
        "hidden_dropout_prob": backbone.dropout,
        "attention_probs_dropout_prob": backbone.attention_dropout,
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
    }
