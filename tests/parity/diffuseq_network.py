"""The tiny DiffuSeq networks whose weights lie in the cases' folders."""

import torch
from torch import Tensor

from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.teachers.diffuseq import official_state
from parity.cases import Case


def network(case: Case) -> Denoiser:
    """The network of a case, in evaluation mode, with the schedule and the steps that the case names, if it does."""
    config = case.config
    spec = DiffuseqSpec(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        ff=config["intermediate_size"],
        time_dim=config["hidden_t_dim"],
        max_positions=config["max_position_embeddings"],
    )
    space = EmbeddingSpace(config["vocab_size"], config["hidden_dim"])
    schedule = {"name": config.get("noise_schedule", "sqrt")}
    if "diffusion_steps" in config:
        schedule["steps"] = config["diffusion_steps"]
    process = GaussianProcess(schedule=schedule)  # type: ignore[arg-type]
    denoiser = Denoiser(space, process, spec.build(space.dim, space.vocab_size)).eval()
    load_official(denoiser, weights(case))
    return denoiser


def weights(case: Case) -> dict[str, Tensor]:
    """The state that a case was made with: its own, or that of the folder its configuration points to."""
    if (case.folder / "model.safetensors").exists():
        return case.arrays("model")
    return case.beside(case.config["weights"].split("/model.safetensors")[0]).arrays("model")


def load_official(denoiser: Denoiser, state: dict[str, Tensor]) -> None:
    """Copy in the order of the original's modules: ``lm_head.weight`` comes last and wins the tied table."""
    wanted = official_state(denoiser)
    assert wanted.keys() == state.keys()
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(state[name])
        denoiser.space.table.copy_(state["lm_head.weight"])
