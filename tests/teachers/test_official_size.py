"""The defaults are the official model: its names, its shapes, its number of parameters."""

import torch

from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.teachers.diffuseq import official_state

LINEAR = ("weight", "bias")
LAYER = [
    *(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
]
MODULES = ["time_embed.0", "time_embed.2", "input_up_proj.0", "input_up_proj.2", "LayerNorm", "lm_head"]
MODULES += ["output_down_proj.0", "output_down_proj.2"]
MODULES += [f"input_transformers.layer.{i}.{module}" for i in range(12) for module in LAYER]
SINGLE = ["position_ids", "word_embedding.weight", "position_embeddings.weight"]
OFFICIAL_NAMES = {*SINGLE, *(f"{module}.{name}" for module in MODULES for name in LINEAR)}


def official_size() -> Denoiser:
    with torch.device("meta"):
        space = EmbeddingSpace(30522, 128)
        return Denoiser(space, GaussianProcess(), DiffuseqSpec().build(space.dim, space.vocab_size))


def test_the_defaults_are_the_official_model() -> None:
    denoiser = official_size()
    assert sum(p.numel() for p in denoiser.parameters()) == 91_225_274  # a tied table is listed once
    state = official_state(denoiser)
    assert len(OFFICIAL_NAMES) == 211
    assert state.keys() == OFFICIAL_NAMES
    assert state["position_ids"].shape == (1, 512)
    assert state["word_embedding.weight"].shape == state["lm_head.weight"].shape == (30522, 128)
    assert state["time_embed.0.weight"].shape == (512, 128)
    assert state["input_up_proj.0.weight"].shape == (768, 128)
    assert state["input_transformers.layer.11.intermediate.dense.weight"].shape == (3072, 768)
    assert state["output_down_proj.2.weight"].shape == (128, 768)
