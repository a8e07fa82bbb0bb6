"""The network computes what the original computes, with the original's weights under the original's names."""

import torch

from dlkit.backbones.diffuseq import sinusoid
from dlkit.denoiser import Denoiser
from parity.cases import Case
from parity.diffuseq_network import network
from parity.every_array import Watched, every_array


@torch.no_grad()
def check(case: Case) -> None:
    denoiser, seen = network(case), {}
    for name in ("time_embed", "input_up_proj", "dropout"):
        hook = lambda _m, _i, out, name=name: seen.update({name: out})  # noqa: E731
        denoiser.backbone.get_submodule(name).register_forward_hook(hook)
    with every_array(case) as golden:
        output, features = denoiser.backbone(golden["x"], golden["timesteps"])
        assert features is None
        ours = {
            "output": output,
            "time_sinusoid": sinusoid(golden["timesteps"], case.config["hidden_t_dim"]),
            "time_embed": seen["time_embed"],
            "input_up": seen["input_up_proj"],
            "after_layernorm": seen["dropout"],
            "logits": denoiser.space.logits(output),
            **layers(case, denoiser, golden),
            **of_the_space(denoiser, golden),
        }
        for name, value in ours.items():
            if name in golden:
                case.close(value, golden[name], name)
        if "x_short" in golden:
            short, _ = denoiser.backbone(golden["x_short"], golden["timesteps_short"])
            case.close(short, golden["output_short"], "output_short")


def layers(case: Case, denoiser: Denoiser, golden: Watched) -> dict[str, torch.Tensor]:
    """The hidden states after each layer."""
    taps = range(case.config["num_hidden_layers"])
    return {f"encoder_layer_{k}": denoiser.backbone(golden["x"], golden["timesteps"], (k,))[1] for k in taps}


def of_the_space(denoiser: Denoiser, golden: Watched) -> dict[str, torch.Tensor]:
    """Embeddings and logits; the second kind of logits, which nothing uses, is minus the distance."""
    space, found = denoiser.space, {}
    if "ids" in golden:
        found["embeds"] = space.embed(golden["ids"])
    for name in ("output", "hidden"):
        if name in golden:
            found[f"logits_of_{name}"] = space.logits(golden[name])
            distance = torch.cdist(golden[name], space.table, compute_mode="donot_use_mm_for_euclid_dist")
            found[f"logits_mode2_of_{name}"] = -distance
    return found
