"""The network computes what the original computes, with the original's weights under the original's names."""

import torch
from torch.testing import assert_close

from dlkit.backbones.diffuseq import DiffuseqSpec, sinusoid
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.teachers.diffuseq import official_state
from golden_arrays import arrays, network, tolerance

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
        return Denoiser(space, GaussianProcess(), DiffuseqSpec().build(space.dim))


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


def test_forward() -> None:
    denoiser, golden, close = network(), arrays("forward"), tolerance("forward")
    seen: dict[str, torch.Tensor] = {}
    for name in ("time_embed", "input_up_proj", "dropout"):
        module = denoiser.backbone.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    assert_close(sinusoid(golden["timesteps"], 16), golden["time_sinusoid"], **close)
    for tap in (0, 1):
        output, features = denoiser.backbone(golden["x"], golden["timesteps"], tap)
        assert_close(output, golden["output"], **close)
        assert_close(features, golden[f"encoder_layer_{tap}"], **close)
    assert_close(seen["time_embed"], golden["time_embed"], **close)
    assert_close(seen["input_up_proj"], golden["input_up"], **close)
    assert_close(seen["dropout"], golden["after_layernorm"], **close)


def test_forward_of_a_shorter_sequence() -> None:
    golden = arrays("forward")
    output, features = network().backbone(golden["x_short"], golden["timesteps_short"])
    assert features is None
    assert_close(output, golden["output_short"], **tolerance("forward"))


def test_embeddings_and_logits() -> None:
    space, golden, close = network().space, arrays("forward"), tolerance("forward")
    assert_close(space.embed(golden["ids"]), golden["embeds"], rtol=0, atol=0)
    assert_close(space.logits(golden["output"]), golden["logits_of_output"], **close)
    assert_close(space.logits(golden["hidden"]), golden["logits_of_hidden"], **close)


def test_forward_without_projections() -> None:
    """Where the embedding is as wide as the network the original has neither projection; time_dim / 2 is odd here."""
    denoiser, golden, close = network("forward_noproj"), arrays("forward_noproj"), tolerance("forward_noproj")
    output, _ = denoiser.backbone(golden["x"], golden["timesteps"])
    assert_close(output, golden["output"], **close)
    assert_close(denoiser.space.logits(output), golden["logits"], **close)
