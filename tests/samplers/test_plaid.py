"""Guidance by tokens: what it climbs, and that it stays finite where the network is sure."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dlkit.backbones.plaid import PlaidSpec
from dlkit.denoiser import Denoiser
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.samplers.plaid import Constraint, PlaidSampler
from dlkit.spaces.unit_norm import UnitNormSpace

B, L, V = 2, 3, 5
POSITIONS = st.one_of(st.sampled_from(["any", "all"]), st.integers(-L, L - 1))
CONSTRAINTS = st.builds(
    Constraint, token=st.integers(0, V - 1), weight=st.floats(-4.0, 4.0), position=POSITIONS, complement=st.booleans()
)


def direct(p: Tensor, wish: Constraint) -> float:
    """w log p or w log(1 - p), by the probabilities themselves."""
    of_token = p[..., wish.token]
    if wish.position == "any":
        of_token = of_token.sum(1) * torch.tensor(-float(L)).double().exp()
    elif wish.position != "all":
        of_token = of_token[:, wish.position]
    return float(wish.weight * (1.0 - of_token if wish.complement else of_token).log().sum())


@settings(max_examples=60)
@given(st.lists(CONSTRAINTS, max_size=3), st.integers(0, 2**20))
def test_the_wish_is_the_sum_of_the_log_probabilities(wishes: list[Constraint], seed: int) -> None:
    logits = 3.0 * torch.randn(B, L, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = PlaidSampler(guidance=tuple(wishes))._wish(logits)
    assert float(found) == pytest.approx(sum(direct(logits.softmax(-1), wish) for wish in wishes), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("position", ["any", "all", 1])
@pytest.mark.parametrize("gap", [20.0, 60.0, 700.0])
def test_the_complement_of_a_sure_token_has_a_value_and_a_slope(position: str | int, gap: float) -> None:
    """log(1 - p) is log((V - 1) e^-gap) nearly, where p is 1 in float64; its slope by the logit is -p."""
    logits = torch.zeros(1, L, V)
    logits[:, 1, 2] = gap
    logits.requires_grad_()
    wish = PlaidSampler(guidance=(Constraint(token=2, position=position, complement=True, weight=1.0),))._wish(logits)
    (slope,) = torch.autograd.grad(wish, logits)
    assert slope.isfinite().all()
    if position == "any":
        p = (1.0 + 2.0 / V) * torch.tensor(-float(L)).double().exp()
        assert_close(wish.detach(), torch.log1p(-p), rtol=1e-6, atol=0)
    else:
        elsewhere = (L - 1) * torch.tensor(1.0 - 1.0 / V).double().log() if position == "all" else 0.0
        assert_close(wish.detach(), torch.tensor(V - 1.0).double().log() - gap + elsewhere, rtol=1e-6, atol=0)
        assert_close(slope[0, 1, 2], torch.tensor(-1.0), rtol=1e-6, atol=0)


def sure(gap: float) -> Denoiser:
    """A network that was never trained, but for token 5, which it finds likelier by ``gap`` everywhere."""
    torch.manual_seed(0)
    process = GaussianProcess.model_validate({"schedule": {"name": "learned_gamma", "hidden": 16}})
    backbone = PlaidSpec(layers=1, hidden=8, heads=2).build(4, 13)
    backbone.output_linear.bias.data[5] = gap
    return Denoiser(UnitNormSpace(13, 4), process, backbone, "prior_logits").eval()


def written(denoiser: Denoiser, **settings: object) -> Tensor:
    noise = torch.randn(9, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    free = Condition(None, torch.ones(2, 6, dtype=torch.bool))
    with torch.inference_mode():
        end = PlaidSampler(steps=8).replace(**settings).sample(denoiser, free, lambda k: noise[k])
    return denoiser.space.logits(end).argmax(-1)


def test_a_sure_token_is_avoided() -> None:
    wish = {"token": 5, "position": "all", "complement": True, "weight": 30.0}
    assert (written(sure(60.0)) == 5).all()
    assert not (written(sure(3.0), guidance=[wish]) == 5).any()
    written(sure(60.0), guidance=[wish])  # states stay finite, else it is refused


def test_states_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="range of numbers; change the weights of its guidance"):
        written(sure(1.0), guidance=[{"token": 5, "position": "all", "weight": 1e300}, {"token": 4, "weight": -1e300}])
    broken = sure(1.0)
    broken.backbone.output_linear.bias.data[5] = torch.nan  # type: ignore[union-attr]
    with pytest.raises(UserError, match="range of numbers; change its score_temperature"):
        written(broken)
