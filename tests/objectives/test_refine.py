"""Where refinement leads, from the closed form of a Gaussian teacher."""

from dataclasses import replace

import pytest
import torch
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


@pytest.mark.parametrize(("noise", "t"), [("own", 0.6), ("fresh", 0.6), ("fresh", 0.2)])
def test_where_a_linear_student_ends(noise: str, t: float) -> None:
    """x = b + a z, fitted to its own targets again and again, as a student is that learns the mean of what it sees.

    The spread ends at k sigma / (1 - k alpha) > sqrt(v) with its own noise, and at 0 with fresh noise; the mean at m.
    """
    count = 64
    both = lab.whitened(0, count, 2 * lab.N)  # z and the fresh noise: means 0, uncorrelated, each of variance 1
    z, eps = both[:, None, : lab.N], both[:, None, lab.N :]
    times = torch.full((count,), t).double()
    alpha, sigma = (float(c(times[:1])) for c in (ROLES.process.schedule.alpha, ROLES.process.schedule.sigma))
    k = (V / (alpha**2 * V + sigma**2)) ** 0.5
    a, b = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    steps = 40 if noise == "own" else 10  # where the spread goes to 0 anyway, the error of few steps does too
    for _ in range(60 if t > 0.5 else 300):
        noised = replace(lab.noised(b + a * z, eps, times, ROLES.process), noise=lambda use: z)
        target = Refine(steps=steps, noise=noise).target(ROLES, noised)  # type: ignore[arg-type]
        a, b = (target * z).mean(), target.mean()
    wide = k * sigma / (1 - k * alpha)
    assert wide > V**0.5
    assert float(b) == pytest.approx(M, abs=0.02)
    assert float(a) == pytest.approx(wide if noise == "own" else 0.0, abs=0.1 * wide)


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


def test_rounded_targets_are_embeddings() -> None:
    """Those that the teacher's last prediction is nearest to; the rounded text is what goes on being denoised."""
    noised = replace(
        lab.noised(normals("text"), normals("fresh"), torch.full((32,), 0.2).double(), ROLES.process),
        noise=lambda use: normals("own"),
    )
    rounded, plain = (Refine(steps=1, rounding=on).target(ROLES, noised) for on in (True, False))  # type: ignore[arg-type]
    assert torch.equal(rounded[:, 0], ROLES.space.table[torch.cdist(plain[:, 0], ROLES.space.table).argmin(1)])
    assert len(rounded.flatten(1).unique(dim=0)) > 1
    states: list[Tensor] = []

    class Watching(lab.ExactRoles):
        def teacher(self, noised: Noised, graph: bool = True):
            states.append(noised.x_t)
            return super().teacher(noised, graph)

    Refine(steps=2, rounding=True).target(Watching(ROLES.real, ROLES.generated, space=ROLES.space), noised)  # type: ignore[arg-type]
    half = torch.full((32,), (0.2 + ROLES.process.noise_schedule.t_min) / 2).double()
    assert_close(states[1], ROLES.process.ddim(states[0], rounded, noised.t, half))
