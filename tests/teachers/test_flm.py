"""FLM's loss on its own; ``parity`` holds that it equals the original's."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from dlkit.backbones.flm import FlmSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.kernels import cross_entropy
from dlkit.recipe import Model
from dlkit.samplers.euler import Euler
from dlkit.spaces.one_hot import OneHotSpace
from dlkit.teachers._base import FitBatch
from dlkit.teachers.flm import Flm
from dlkit.testing._material import begun
from live_memory import LiveMemory

V, B, L = 11, 3, 5


def denoiser(tokens: int = V, **settings: Any) -> Denoiser:
    torch.manual_seed(0)
    spec = FlmSpec(**{"layers": 1, "hidden": 8, "heads": 2, "cond": 6, "dropout": 0.0, **settings})
    process = GaussianProcess.model_validate({"schedule": {"name": "token_accuracy", "vocab_size": tokens}})
    return Denoiser(OneHotSpace(tokens), process, begun(spec.build(tokens, tokens)), "logits").eval()


def batch(tokens: int = V, length: int = L) -> FitBatch:
    generator = torch.Generator().manual_seed(1)
    eps = torch.randn(B, length, tokens, generator=generator)
    return FitBatch(
        ids=torch.randint(tokens, (B, length), generator=generator),
        mask=torch.arange(length).expand(B, length) >= torch.tensor([0, 2, 4])[:, None],
        t=torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64),
        normal=lambda name: eps.clone(),
        uniform=lambda name, *shape: torch.rand(B, *shape),
    )


def test_the_loss_by_hand() -> None:
    """Given positions are clean in the state, and do not count."""
    net, data = denoiser(), batch()
    c = net.process.noise_schedule.alpha(data.t).float()[:, None, None]
    clean = F.one_hot(data.ids, V).float()
    x_t = torch.where(data.mask[..., None], c * clean + (1 - c) * data.normal("eps_t"), clean)
    log_p = net.backbone(x_t, 1.0 - data.t)[0].log_softmax(-1)
    each = -log_p.gather(-1, data.ids[..., None])[..., 0]
    wanted = torch.stack([row[mask].mean() for row, mask in zip(each, data.mask, strict=True)])
    assert_close(Flm().losses(net, data)["ce"], wanted)


def test_equal_odds_cost_log_v() -> None:
    net = denoiser()
    with torch.no_grad():
        net.backbone.output_layer.linear.weight.zero_()
        net.backbone.output_layer.linear.bias.zero_()
    assert_close(Flm().losses(net, batch())["ce"], torch.full((B,), math.log(V)))


def test_the_weighting_is_least_where_w_is_the_logarithm() -> None:
    """exp(-w) L + w has its minimum, 1 + log L, at w = log L."""
    net, data = denoiser(loss_weighting=True), batch()
    head = net.backbone.learnable_loss_weighting
    w, found = head(1.0 - data.t), Flm().losses(net, data)["weighted_ce"]
    net.backbone.learnable_loss_weighting = None
    plain = Flm().losses(net, data)["ce"]
    assert_close(found, torch.exp(-w) * plain + w)
    assert (found >= 1.0 + plain.log() - 1e-6).all()


def test_other_networks_are_refused() -> None:
    net = denoiser()
    net.prediction = "x0"
    with pytest.raises(UserError, match="prediction=logits"):
        Flm().losses(net, batch())


def test_the_family_brings_its_parts() -> None:
    model = Model(family="flm")
    parts = {name: getattr(model, name).registered_name for name in ("space", "process", "backbone")}
    assert parts == {"space": "one_hot", "process": "gaussian", "backbone": "flm"}
    assert (model.prediction, model.layout) == ("logits", "packed")
    assert model.process.schedule.registered_name == "token_accuracy"


def test_three_states_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the loss with its gradient, and in Euler's method; a part more for what grows with V alone."""
    monkeypatch.setattr(cross_entropy, "ELEMENTS", 2000)
    tokens, length = 2000, 32
    net, data = denoiser(tokens, hidden=2, heads=1), batch(tokens, length)
    size = B * length * tokens * 4
    with LiveMemory() as memory:
        Flm().losses(net, data)["ce"].mean().backward()
    assert 2.9 * size < memory.peak < 3.3 * size
    cond = Condition(None, torch.ones(B, length, dtype=torch.bool))
    with torch.inference_mode(), LiveMemory() as memory:
        Euler(steps=3).sample(net, cond, lambda k: torch.randn(B, length, tokens))
    assert 2.9 * size < memory.peak < 3.3 * size
