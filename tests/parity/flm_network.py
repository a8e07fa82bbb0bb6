"""The tiny FLM networks whose weights lie in the folder of the cases."""

from typing import Any

import torch
from torch import Tensor

from dlkit.backbones.flm import FlmBackbone, FlmSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.spaces.one_hot import OneHotSpace
from parity.cases import Case


def spec(case: Case, **settings: Any) -> FlmSpec:
    """The backbone that a case's configuration describes."""
    config = case.config
    assert (config["mlp_ratio"], config["time_features"], config["time_conditioning"]) == (4, 256, True)
    return FlmSpec(
        layers=config["n_blocks"],
        hidden=config["hidden_size"],
        heads=config["n_heads"],
        cond=config["cond_dim"],
        softcap=config["softcap"],
        dropout=config["dropout"],
        **settings,
    )


def weights(case: Case, name: str) -> dict[str, Tensor]:
    """The averaged weights ``name`` under the names that they have in the backbone."""
    return {key.removeprefix("backbone."): value for key, value in case.beside("../weights").arrays(name).items()}


def network(case: Case, name: str = "flm") -> FlmBackbone:
    """``flm``, the flow model, or ``flm_distill`` or ``flm_distill_double``, its students of two times."""
    two = name != "flm"
    built = spec(case, two_times=two, loss_weighting=two).build(case.config["vocab_size"], case.config["vocab_size"])
    missing, unknown = built.load_state_dict(weights(case, f"{name}_ema"), strict=False)
    assert (missing, unknown) == (["rotary_emb.inv_freq"], []), name
    return built.eval()


def denoiser(case: Case, name: str = "flm") -> Denoiser:
    """The same as a denoiser of one-hot states."""
    tokens = case.config["vocab_size"]
    process = GaussianProcess.model_validate({"schedule": {"name": "token_accuracy", "vocab_size": tokens}})
    return Denoiser(OneHotSpace(tokens), process, network(case, name), "logits").eval()


def times(tau: Tensor) -> Tensor:
    """FLM's time runs the other way: it is 1 at clean text."""
    return 1.0 - tau.double()


def check_gradients(case: Case, backbone: torch.nn.Module) -> None:
    """Those of all parameters, under the original's names."""
    wanted = case.arrays("grads")
    ours = {f"backbone.{name}": parameter.grad for name, parameter in backbone.named_parameters()}
    assert ours.keys() == wanted.keys()
    for name, gradient in ours.items():
        found = torch.zeros_like(wanted[name]) if gradient is None else gradient
        case.close(found, wanted[name], name, prefix="grad_", of_largest=True)
