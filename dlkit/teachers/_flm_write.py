"""A teacher as a Lightning checkpoint of FLM's own code."""

from pathlib import Path
from typing import Any

import torch

from dlkit.backbones.flm import FlmSpec
from dlkit.errors import UserError
from dlkit.schedules.token_accuracy import TokenAccuracySchedule
from dlkit.spaces.one_hot import OneHotSpec
from dlkit.teachers._base import TeacherParts

FILE = "flm.ckpt"
OFFICIAL_CAP = 50.0


def write_checkpoint(folder: Path, parts: TeacherParts) -> None:
    """Write ``flm.ckpt``, of tensors and plain settings, and the tokenizer beside it.

    The weights stand there twice, by name and, as the averaged ones, in order.

    Raises:
        UserError: the original's code has no such space, process, backbone or prediction.
    """
    backbone = _official(parts)
    with torch.device("meta"):
        network = backbone.build(parts.tokenizer.vocab_size, parts.tokenizer.vocab_size)
    state = {name: parts.state[f"backbone.{name}"].cpu() for name in network.state_dict()}
    content = {
        "state_dict": {f"backbone.{name}": tensor for name, tensor in state.items()},
        "ema": {
            "decay": parts.fit["ema"],
            "num_updates": parts.fit["steps"],
            "shadow_params": [state[name] for name, _ in network.named_parameters()],
        },
        "global_step": parts.fit["steps"],
        "hyper_parameters": {"config": _settings(parts, backbone)},
    }
    torch.save(content, folder / FILE)
    parts.tokenizer.save(folder)


def _official(parts: TeacherParts) -> FlmSpec:
    """The backbone. Raises ``UserError`` unless all is as in the original."""
    schedule, tokens = getattr(parts.process, "schedule", None), parts.tokenizer.vocab_size
    as_there = {
        "a space of one_hot states": isinstance(parts.space, OneHotSpec),
        "the process gaussian": parts.process.registered_name == "gaussian",
        f"the schedule token_accuracy of {tokens} tokens": isinstance(schedule, TokenAccuracySchedule)
        and schedule.vocab_size == tokens,
        "the backbone flm with softcap=50": isinstance(parts.backbone, FlmSpec)
        and parts.backbone.softcap == OFFICIAL_CAP,
        "prediction=logits": parts.prediction == "logits",
    }
    lacking = [what for what, is_so in as_there.items() if not is_so]
    if lacking:
        raise UserError(f"FLM's own code knows only {lacking[0]}; this teacher has no place in a checkpoint of it")
    assert isinstance(parts.backbone, FlmSpec)
    return parts.backbone


def _settings(parts: TeacherParts, backbone: FlmSpec) -> dict[str, Any]:
    """Under the names that the original's configuration has."""
    optimizer = parts.fit["optimizer"]
    return {
        "algo": {
            "name": "dos_denoiser" if backbone.two_times else "flm",
            "backbone": "dit",
            "parameterization": "mean",
            "time_conditioning": True,
            "double_temb": backbone.two_times,
            "learnable_loss_weighting": backbone.loss_weighting,
        },
        "model": {
            "type": "ddit",
            "hidden_size": backbone.hidden,
            "cond_dim": backbone.cond,
            "length": parts.seq_len,
            "n_blocks": backbone.layers,
            "n_heads": backbone.heads,
            "dropout": backbone.dropout,
            "tie_word_embeddings": False,
        },
        "loader": {"global_batch_size": parts.fit["batch_size"]},
        "training": {"antithetic_sampling": parts.fit["time_sampler"]["name"] == "stratified"},
        "trainer": {"gradient_clip_val": optimizer["clip"] or 0.0},
        "lr_scheduler": {"num_warmup_steps": optimizer["warmup"]},
        "optim": {
            "lr": optimizer["lr"],
            "weight_decay": optimizer["weight_decay"],
            "eps": optimizer["eps"],
            **dict(zip(("beta1", "beta2"), optimizer["betas"], strict=True)),
        },
    }
