"""Where refinement leads, from the closed form of a Gaussian teacher."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import gaussian_lab as lab
from dlkit.objectives._base import Noised
from dlkit.objectives._terms import token_error
from dlkit.objectives.refine import Refine
from dlkit.randomness import Stream
from dlkit.spaces.embedding import EmbeddingSpace

M, V = 1.5, 2.0
ROLES = lab.ExactRoles(
    lab.Gaussian(torch.full((lab.N,), M).double(), V * torch.eye(lab.N).double()),
    lab.Gaussian(torch.zeros(lab.N).double(), torch.eye(lab.N).double()),
)


def normals(name: str, count: int = 32) -> Tensor:
    return Stream(0, name).normal(torch.arange(count), 1, lab.N).double()


def refined(noise: str, t: float, steps: int = 500) -> tuple[Tensor, Tensor, Noised]:
    """The target, the noise n of the closed form, and the state."""
    g, z, eps = normals("text"), normals("own"), normals("fresh")
    noised = lab.noised(g, eps, torch.full((len(g),), t).double(), ROLES.process)
    noised = Noised(noised.x0, noised.x_t, noised.t, noised.cond, noise=lambda use: z)
    return Refine(steps=steps, noise=noise).target(ROLES, noised), z if noise == "own" else eps, noised  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", ["own", "fresh"])
@pytest.mark.parametrize("t", [0.02, 0.2, 0.6])
def test_the_target_of_a_gaussian_teacher(noise: str, t: float) -> None:
    """x = m + k (alpha (G - m) + sigma n) in the limit of many steps."""
    target, n, noised = refined(noise, t)
    alpha, sigma = (float(c(noised.t[:1])) for c in (ROLES.process.schedule.alpha, ROLES.process.schedule.sigma))
    k = (V / (alpha**2 * V + sigma**2)) ** 0.5
    # DDIM of 500 steps, and the way from the lowest time to 0, which is one step of Tweedie's
    assert_close(target, M + k * (alpha * (noised.x0 - M) + sigma * n), atol=0.06, rtol=0.0)


@given(t=st.floats(0.001, 0.95), v=st.floats(0.05, 20.0))
def test_own_noise_widens_and_fresh_noise_narrows(t: float, v: float) -> None:
    """The spread that each map leaves as it is: k sigma / (1 - k alpha) > sqrt(v), and 0 as k alpha < 1."""
    alpha, sigma = (c(torch.tensor(t).double()) for c in (ROLES.process.schedule.alpha, ROLES.process.schedule.sigma))
    k = (v / (alpha**2 * v + sigma**2)).sqrt()
    assert k * alpha < 1
    assert k * sigma / (1 - k * alpha) > v**0.5


def test_the_teacher_is_asked_once_for_each_step_and_learns_nothing() -> None:
    calls: list[float] = []

    class Counting(lab.ExactRoles):
        def teacher(self, noised: Noised, graph: bool = True):
            calls.append(float(noised.t[0]))
            assert not graph
            return super().teacher(noised, graph)

    roles = Counting(ROLES.real, ROLES.generated)
    g = normals("text").requires_grad_()
    target = Refine(steps=4, noise="fresh").target(
        roles, lab.noised(g, normals("fresh"), torch.full((32,), 0.2).double(), roles.process)
    )
    assert not target.requires_grad
    assert calls == pytest.approx([0.2, 0.150125, 0.10025, 0.050375], abs=1e-6)  # evenly down towards 1/T


def test_a_text_that_nobody_generated_has_no_noise_of_its_own() -> None:
    with pytest.raises(ValueError, match="noise=fresh"):
        Refine().target(
            ROLES, lab.noised(normals("text"), normals("fresh"), torch.full((32,), 0.2).double(), ROLES.process)
        )


def test_the_error_of_tokens_by_hand() -> None:
    """Two words, logits x E^T: the target is word 1, and padding does not count."""
    space = EmbeddingSpace(2, 2).double()
    with torch.no_grad():
        space.word_embedding.weight.copy_(torch.eye(2))
        space.lm_head.bias.zero_()
    x0 = torch.tensor([[[2.0, 1.0], [9.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]).double()
    target = torch.tensor([[[0.1, 0.9]] * 2] * 2).double()
    mask = torch.tensor([[True, False], [True, True]])
    expected = torch.stack([torch.log1p(torch.tensor(1.0).exp()), torch.tensor(2.0).log()]).double()
    assert_close(token_error(x0, target, mask, space), expected)
