"""The network computes what the original computes, with the original's weights under the original's names."""

from dlkit.backbones.diffuseq import sinusoid
from parity.cases import Case
from parity.diffuseq_network import network


def check(case: Case) -> None:
    denoiser, golden = network(case), case.arrays()
    output, features = denoiser.backbone(golden["x"], golden["timesteps"])
    assert features is None
    case.close(output, golden["output"], "output")
    if "logits" in golden:
        case.close(denoiser.space.logits(output), golden["logits"], "logits")
    if "x_short" in golden:
        check_the_inside(case, golden)


def check_the_inside(case: Case, golden: dict) -> None:
    """Everything between input and output, a shorter sequence, and the space."""
    denoiser, seen = network(case), {}
    backbone, space = denoiser.backbone, denoiser.space
    for name in ("time_embed", "input_up_proj", "dropout"):
        hook = lambda _m, _i, out, name=name: seen.update({name: out})  # noqa: E731
        backbone.get_submodule(name).register_forward_hook(hook)
    case.close(sinusoid(golden["timesteps"], case.config["hidden_t_dim"]), golden["time_sinusoid"], "sinusoid")
    for tap in range(case.config["num_hidden_layers"]):
        _, features = backbone(golden["x"], golden["timesteps"], (tap,))
        case.close(features, golden[f"encoder_layer_{tap}"], f"layer {tap}")
    case.close(seen["time_embed"], golden["time_embed"], "time_embed")
    case.close(seen["input_up_proj"], golden["input_up"], "input_up")
    case.close(seen["dropout"], golden["after_layernorm"], "after_layernorm")
    short, _ = backbone(golden["x_short"], golden["timesteps_short"])
    case.close(short, golden["output_short"], "output_short")
    case.close(space.embed(golden["ids"]), golden["embeds"], "embeds")
    case.close(space.logits(golden["output"]), golden["logits_of_output"], "logits_of_output")
    case.close(space.logits(golden["hidden"]), golden["logits_of_hidden"], "logits_of_hidden")
