"""DiffuSeq's loss on its own; ``parity`` holds that it equals the original's."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.parameterization import Source
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.teachers._base import FitBatch
from dlkit.teachers.diffuseq import Diffuseq, official_state


def denoiser(process: GaussianProcess | None = None, prediction: Source = "x0") -> Denoiser:
    torch.manual_seed(0)
    spec = DiffuseqSpec(layers=1, hidden=8, heads=2, ff=16, time_dim=6, max_positions=10)
    return Denoiser(EmbeddingSpace(11, 4), process or GaussianProcess(), spec.build(4, 11), prediction).eval()


def batch() -> FitBatch:
    generator = torch.Generator().manual_seed(1)
    return FitBatch(
        ids=torch.randint(11, (3, 5), generator=generator),
        mask=torch.arange(5).expand(3, 5) > 1,
        t=torch.tensor([0.0005, 0.4, 1.0], dtype=torch.float64),
        normal={name: torch.randn(3, 5, 4, generator=generator) for name in ("eps_0", "eps_t")}.__getitem__,
        uniform=lambda name, *shape: torch.rand(3, *shape),
    )


def test_terms_by_hand() -> None:
    net, data = denoiser(), batch()
    x_mean = net.space.table[data.ids]
    x_start = x_mean + net.process.sigma_0 * data.normal("eps_0")
    alpha, sigma = (f(data.t).float()[:, None, None] for f in (net.process.schedule.alpha, net.process.schedule.sigma))  # type: ignore[attr-defined]
    x_t = torch.where(data.mask[..., None], alpha * x_start + sigma * data.normal("eps_t"), x_start)
    x0 = net.backbone((x_t), (data.t * 2000 - 1) / 2)[0]
    target = torch.cat((x_mean[:1], x_start[1:]))  # the first sample is at the lowest time
    log_p = net.space.logits(x_start).log_softmax(-1)
    terms = Diffuseq().losses(net, data)
    assert_close(terms["mse"], (target - x0).square().flatten(1).mean(1))
    assert_close(terms["decoder_nll"], -log_p.gather(-1, data.ids[..., None]).flatten(1).mean(1))
    assert_close(terms["tT"], 2.0204e-7 * x_start.square().flatten(1).mean(1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("prediction", ["eps", "v", "score"])
def test_the_error_is_that_of_what_is_predicted(prediction: Source) -> None:
    """Where text is generated the target of eps is the noise that was added, and a score's error is that of its eps."""
    net, data = denoiser(prediction=prediction), replace(batch(), mask=torch.ones(3, 5, dtype=torch.bool))
    data = replace(data, t=torch.tensor([0.02, 0.4, 1.0], dtype=torch.float64))  # above the lowest time
    x_start = net.space.table[data.ids] + net.process.sigma_0 * data.normal("eps_0")
    alpha, sigma = (f(data.t, x_start) for f in (net.process.alpha, net.process.sigma))
    output = net.backbone(alpha * x_start + sigma * data.normal("eps_t"), (data.t * 2000 - 1) / 2)[0]
    error = {
        "eps": data.normal("eps_t") - output,
        "v": alpha * data.normal("eps_t") - sigma * x_start - output,
        "score": data.normal("eps_t") + sigma * output,
    }[prediction]
    assert_close(Diffuseq().losses(net, data)["mse"], error.square().flatten(1).mean(1), rtol=1e-3, atol=1e-5)


def test_logits_have_the_error_of_the_x0_they_stand_for() -> None:
    net, data = denoiser(prediction="logits"), batch()

    class Mean(nn.Module):
        def forward(self, *args: Any) -> tuple[torch.Tensor, None]:
            return net.space.logits(net.backbone(*args)[0]).softmax(-1) @ net.space.table, None

    same = Denoiser(net.space, net.process, Mean())
    assert_close(Diffuseq().losses(net, data)["mse"], Diffuseq().losses(same, data)["mse"])


def test_samples_do_not_see_each_other() -> None:
    net, data = denoiser(), batch()
    together = Diffuseq().losses(net, data)
    alone = FitBatch(data.ids[1:2], data.mask[1:2], data.t[1:2], lambda name: data.normal(name)[1:2], data.uniform)
    for name, value in Diffuseq().losses(net, alone).items():
        assert_close(value, together[name][1:2])


def test_official_names_share_the_storage() -> None:
    net = denoiser()
    state = official_state(net)
    assert len(state) == len(net.state_dict())
    assert state["word_embedding.weight"].data_ptr() == net.space.table.data_ptr()
    assert state["lm_head.weight"].data_ptr() == net.space.table.data_ptr()
    assert all(not name.startswith(("space", "backbone")) for name in state)


def test_terms_of_the_second_version_by_hand() -> None:
    """Sigma is .12, .79 and 1 here; tokens of the target are absorbed where u is below half of that."""
    net = denoiser(MeanShift(absorb_rate=0.5))
    u = torch.tensor([0.2, 0.7, 0.2, 0.45, 0.05]).expand(3, 5).double()
    data = replace(batch(), uniform=lambda name, *shape: u)
    mean, schedule = net.space.mean_embed, net.process.noise_schedule
    assert mean is not None
    x_start = net.space.table[data.ids] + net.process.sigma_0 * data.normal("eps_0")
    alpha, sigma = (f(data.t).float()[:, None, None] for f in (schedule.alpha, schedule.sigma))
    x_t = mean + alpha * (x_start - mean) + sigma * data.normal("eps_t")
    absorbed = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, 1, 1, 1]]).bool()  # the first two are the source
    x_t = torch.where(absorbed[..., None], mean, torch.where(data.mask[..., None], x_t, x_start))
    x0 = net.backbone(x_t, (data.t * 2000 - 1) / 2)[0]
    target = torch.cat((net.space.table[data.ids[:1]], x_start[1:]))
    terms = Diffuseq(reg_rate=0.03).losses(net, data)
    assert_close(terms["mse"], (target - x0).square().flatten(1).mean(1))
    assert_close(terms["mean_norm"], (0.03 * mean.square().sum().sqrt()).expand(3))
    sum(term.mean() for term in terms.values()).backward()  # type: ignore[union-attr]
    assert mean.grad is not None
    assert float(mean.grad.abs().min()) > 0


def test_the_second_version_has_one_more_official_name() -> None:
    first, second = official_state(denoiser()), official_state(denoiser(MeanShift()))
    assert second.keys() - first.keys() == {"mean_embed"}
    assert first.keys() <= second.keys()
