"""Kernels beside what a competent person would first write, in one process: `make bench`."""

import pytest
import torch

from dlkit.kernels.nearest_token import nearest_token
from dlkit.kernels.score_distillation import score_distillation

SHAPE = (64, 128, 128)


def plain_loss(x: torch.Tensor, x0_teacher: torch.Tensor, x0_fake: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Loss (4) with mu = 1.2 in plain eager torch, its gradients left to autograd."""
    keep = mask[..., None].to(x.dtype)
    count = keep.sum((1, 2)) * x.shape[-1]
    d, r = x0_teacher - x0_fake, x0_fake - x
    weight = (count / ((x - x0_teacher).abs() * keep).sum((1, 2))).detach()
    return (weight * ((-0.2 * d * d + d * r) * keep).sum((1, 2)) / count).mean()


def kernel_loss(x: torch.Tensor, x0_teacher: torch.Tensor, x0_fake: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return score_distillation(x, x0_teacher, x0_fake, mask, mu=1.2)


@pytest.mark.benchmark(group="score_distillation, forward and backward")
@pytest.mark.parametrize("loss", [plain_loss, kernel_loss])
def test_score_distillation(benchmark, loss):
    states = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(k), requires_grad=True) for k in range(3)]
    mask = torch.arange(SHAPE[1]).expand(SHAPE[:2]) >= 40

    def run() -> torch.Tensor:
        value = loss(*states, mask)
        value.backward()
        return value

    value = benchmark(run)
    assert torch.allclose(value, plain_loss(*states, mask), rtol=1e-5)


def brute_force(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x, table).argmin(-1)


@pytest.mark.benchmark(group="nearest_token")
@pytest.mark.parametrize("search", [brute_force, nearest_token])
def test_nearest_token(benchmark, search):
    generator = torch.Generator().manual_seed(0)
    table, x = torch.randn(8192, 128, generator=generator), torch.randn(2048, 128, generator=generator)
    found = benchmark(search, x, table)
    assert (found == brute_force(x, table)).float().mean() > 0.999  # ties in the last bit may fall either way
