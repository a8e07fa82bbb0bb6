"""Arrays that DiffuSeq's own code produced on a tiny network (``tests/golden/diffuseq``), and that network in dlkit.

Each case is a folder with tensors and a ``meta.json`` that says what they are and how close a comparison may be asked
to come. Where a case records noise, the recorded noise is fed; no seed is relied on.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.teachers.diffuseq import official_state

ROOT = Path(__file__).parent / "golden/diffuseq"


def arrays(case: str, file: str = "data") -> dict[str, Tensor]:
    """The tensors of a case."""
    return load_file(ROOT / case / f"{file}.safetensors")


def tolerance(case: str) -> dict[str, float]:
    """``rtol`` and ``atol`` that the case suggests."""
    limits = meta(case)["tolerance"]
    return {"rtol": limits["rtol"], "atol": limits["atol"]}


def meta(case: str) -> dict[str, Any]:
    """What a case says of itself."""
    return json.loads((ROOT / case / "meta.json").read_text())


def network(case: str = "checkpoint", steps: int = 2000) -> Denoiser:
    """The network whose weights lie in a case's folder, in evaluation mode, with a sqrt schedule of ``steps``."""
    config = meta(case)["config"]
    spec = DiffuseqSpec(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        ff=config["intermediate_size"],
        time_dim=config["hidden_t_dim"],
        max_positions=config["max_position_embeddings"],
    )
    space = EmbeddingSpace(config["vocab_size"], config["hidden_dim"])
    process = GaussianProcess(schedule={"name": "sqrt", "steps": steps})  # type: ignore[arg-type]
    denoiser = Denoiser(space, process, spec.build(space.dim)).eval()
    load_official(denoiser, arrays(case, "model"))
    return denoiser


def load_official(denoiser: Denoiser, state: dict[str, Tensor]) -> None:
    """Copy in the order of the original's modules: ``lm_head.weight`` comes last and wins the tied table."""
    wanted = official_state(denoiser)
    assert wanted.keys() == state.keys()
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(state[name])
        denoiser.space.table.copy_(state["lm_head.weight"])
