"""What sampling holds in memory does not depend on the number of steps, nor rounding on batch times vocabulary."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlkit import decoders, samplers
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.part import from_spec
from dlkit.spaces.embedding import EmbeddingSpace
from live_memory import LiveMemory

B, L, D = 4, 32, 8


class Half(nn.Module):
    """A network of one operation."""

    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, None]:
        return x / 2, None


def denoiser(vocab_size: int) -> Denoiser:
    return Denoiser(EmbeddingSpace(vocab_size, D), GaussianProcess(), Half())


def measured(spec: dict[str, Any], vocab_size: int = 50) -> LiveMemory:
    """A run whose draws are made anew each time, as those of ``generate`` are."""
    sampler, network = from_spec(samplers.registry, spec), denoiser(vocab_size)
    cond = Condition(torch.zeros(B, L, D), torch.ones(B, L, dtype=torch.bool))
    with torch.inference_mode(), LiveMemory() as memory:
        sampler.sample(network, cond, lambda k: torch.full((B, L, D), 0.1 * k))
    return memory


@pytest.mark.parametrize("name", ["ancestral", "ddim", "ddim_legacy", "dpm_solver_pp_2m"])
@pytest.mark.parametrize("rounding", [False, True])
def test_peak_does_not_grow_with_the_steps(name: str, rounding: bool) -> None:
    few, many = (measured({"name": name, "rounding": rounding, "steps": steps}).peak for steps in (4, 100))
    assert few > 0
    assert many <= few
    assert few < 16 * B * L * D * 4 + 4 * B * L * 50  # a few states, and the scores of this small vocabulary


def test_the_measure_sees_a_trajectory() -> None:
    kept: list[Tensor] = []
    sampler, network = from_spec(samplers.registry, {"name": "ddim", "steps": 50}), denoiser(50)
    cond = Condition(torch.zeros(B, L, D), torch.ones(B, L, dtype=torch.bool))
    with torch.inference_mode(), LiveMemory() as memory:
        sampler.sample(network, cond, lambda k: torch.zeros(B, L, D), lambda k, t, x_t, x0: kept.append(x_t))
    assert memory.peak > 40 * B * L * D * 4


OFFICIAL_VOCABULARY = 30522
FULL = 8 * 64 * OFFICIAL_VOCABULARY


@pytest.mark.parametrize("decoder", ["nearest", "linear_head"])
def test_decoding_never_holds_all_scores(decoder: str) -> None:
    space, x = EmbeddingSpace(OFFICIAL_VOCABULARY, D), torch.randn(8, 64, D)
    with torch.inference_mode(), LiveMemory() as memory:
        ids = from_spec(decoders.registry, decoder).decode(x, space)
    assert ids.shape == (8, 64)
    assert memory.largest < FULL / 3
    assert memory.peak < FULL * 4 / 3


def test_rounding_never_holds_all_scores() -> None:
    """Four texts of 32 tokens are fewer rows than are compared at once, so the vocabulary is larger here."""
    vocab_size = 200_000
    assert measured({"name": "ddim", "steps": 2, "rounding": True}, vocab_size).largest < B * L * vocab_size / 3
