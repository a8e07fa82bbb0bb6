"""Run folders as the original's trainer leaves them, tiny and of any size, for tests."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.teachers._diffuseq_write import official_order

WORDS = ["[START]", "[END]", "[UNK]", "[PAD]", *(f"w{k}" for k in range(9))]
ARGUMENTS: dict[str, Any] = {
    "lr": 1e-4,
    "batch_size": 32,
    "microbatch": 16,
    "learning_steps": 100,
    "ema_rate": "0.9999",
    "schedule_sampler": "uniform",
    "weight_decay": 0.0,
    "gradient_clipping": -1.0,
    "diffusion_steps": 60,
    "noise_schedule": "sqrt",
    "timestep_respacing": "",
    "vocab": "data/vocab.txt",
    "use_plm_init": "no",
    "vocab_size": len(WORDS),
    "config_name": "tiny-bert",
    "seq_len": 16,
    "hidden_t_dim": 6,
    "hidden_dim": 4,
    "dropout": 0.1,
    "learn_sigma": False,
    "predict_xstart": True,
    "rescale_timesteps": True,
    "emb_scale_factor": 1.0,
}
SIZES = {"layers": 2, "hidden": 8, "heads": 2, "ff": 12, "time_dim": 6, "max_positions": 20}


def weights(seed: int = 0, dim: int = 4, vocab_size: int = len(WORDS), **sizes: int) -> OrderedDict[str, Tensor]:
    """A state as the original writes it: trained entries are parameters, and the two names of the tied table differ."""
    torch.manual_seed(seed)
    spec = DiffuseqSpec(**{**SIZES, **sizes})  # type: ignore[arg-type]
    denoiser = Denoiser(EmbeddingSpace(vocab_size, dim), GaussianProcess(), spec.build(dim, vocab_size))
    state = official_order(denoiser.state_dict())
    state["lm_head.weight"] = state["lm_head.weight"] + 0.5
    return OrderedDict(
        (name, nn.Parameter(t.clone()) if t.is_floating_point() else t.clone()) for name, t in state.items()
    )


def bert_config(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 20,
        "layer_norm_eps": 1e-12,
        "attention_probs_dropout_prob": 0.1,
        **changes,
    }


def run_folder(folder: Path, state: Any = None, file: str = "ema_0.9999_000100.pt", **arguments: Any) -> Path:
    """Write a run folder; an argument that is None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {key: value for key, value in {**ARGUMENTS, **arguments}.items() if value is not None}
    (folder / "training_args.json").write_text(json.dumps(said))
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "bert_config.json").write_text(json.dumps(bert_config()))
    torch.save(weights() if state is None else state, folder / file)
    return folder
