"""The tiny Plaid networks whose weights lie in the cases' folders."""

import torch
from jaxtyping import Int
from torch import Tensor

from dlkit.backbones.plaid import PlaidSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.unit_norm import UnitNormSpace
from parity.cases import Case

FILES = ("noise_schedule", "gamma_bounds", "embedding_matrix", "model")


def network(case: Case) -> Denoiser:
    """The network of a case, in evaluation mode, with its weights."""
    config = case.config
    spec = PlaidSpec(layers=config["n_blocks"], hidden=config["dim"], heads=config["n_heads"])
    space = UnitNormSpace(config["vocab_size"], config["embed_dim"])
    weights = official(case)
    schedule = {"name": "learned_gamma", "hidden": len(weights["noise_schedule.W1"])}
    process = GaussianProcess(schedule=schedule)  # type: ignore[arg-type]
    denoiser = Denoiser(space, process, spec.build(space.dim, space.vocab_size), "prior_logits").eval()

    denoiser.load_state_dict(ours(weights))
    return denoiser


def official(case: Case) -> dict[str, Tensor]:
    """The weights under ``FILE.NAME`` of the original's four files."""
    home = case.beside(case.config["weights"].split("/{")[0])
    return {f"{file}.{name}": tensor for file in FILES for name, tensor in home.arrays(file).items()}


def ours(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the original's names under those of a :class:`dlkit.denoiser.Denoiser`'s state."""
    places = {
        "noise_schedule": "schedule",
        "gamma_bounds": "schedule",
        "embedding_matrix": "space",
        "model": "backbone",
    }
    split = {name: name.partition(".") for name in named}
    return {f"{places[split[name][0]]}.{split[name][2]}": tensor for name, tensor in named.items()}


def at(denoiser: Denoiser, u: Tensor) -> Tensor:
    """dlkit's time of the original's, which begins at t_min."""
    schedule = denoiser.process.noise_schedule
    return schedule.between(u, schedule.t_min, 1.0)


def segments(cu_seqlens: Tensor, shape: torch.Size) -> Int[Tensor, "b l"]:
    """The number of the segment of each position, from the boundaries in the flattened batch."""
    flat = torch.arange(shape[0] * shape[1])
    return torch.searchsorted(cu_seqlens.long(), flat, right=True).view(shape)
