"""The denoiser: what goes into the network, what is asked of it, and its frozen twin."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dlkit.backbones.diffuseq import DiffuseqSpec
from dlkit.denoiser import Denoiser, frozen
from dlkit.diffusion.condition import Condition
from dlkit.diffusion.parameterization import SOURCES, TARGETS, Source, Target
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.diffusion.processes.mean_shift import MeanShift
from dlkit.spaces.embedding import EmbeddingSpace
from dlkit.training.turns import sibling

T = torch.tensor([0.2, 0.9], dtype=torch.float64)
ALL = frozenset({"x0", "logits", "features"})


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    spec = DiffuseqSpec(layers=2, hidden=8, heads=2, ff=16, time_dim=6, max_positions=10)
    return Denoiser(EmbeddingSpace(11, 4), GaussianProcess(), spec.build(4, 11)).eval()


@pytest.fixture
def cond() -> Condition:
    return Condition(torch.randn(2, 5, 4), torch.arange(5).expand(2, 5) > 1)


def state() -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(3))


def test_the_network_sees_the_anchor_and_its_own_clock(denoiser: Denoiser, cond: Condition) -> None:
    seen = []
    denoiser.backbone.register_forward_hook(lambda _m, args, _o: seen.append(args))
    denoiser.predict(state(), T, cond)
    denoiser.predict(state(), T, None)
    (held, time, taps), (free, _, _) = seen
    assert torch.equal(held, cond.apply(state()))
    assert torch.equal(free, state())
    assert_close(time.double(), (T * 2000 - 1) / 2)
    assert taps is None


def test_only_what_is_wanted(denoiser: Denoiser, cond: Condition) -> None:
    plain = denoiser.predict(state(), T, cond)
    assert plain.logits is None and plain.features is None
    full = denoiser.predict(state(), T, cond, want=ALL, taps=(0,))
    assert torch.equal(full.x0, plain.x0)
    assert full.logits is not None and full.features is not None
    assert_close(full.logits, denoiser.space.logits(plain.x0))
    assert full.features.shape == (2, 5, 8)
    last = denoiser.predict(state(), T, cond, want=ALL).features
    assert last is not None and not torch.equal(last, full.features)


@pytest.mark.parametrize("to", TARGETS)
def test_value_is_the_parameterisation_asked_for(denoiser: Denoiser, cond: Condition, to: str) -> None:
    found = denoiser.predict(state(), T, cond, to=to)  # type: ignore[arg-type]
    wanted = denoiser.process.convert(found.x0, cond.apply(state()), T, "x0", to)  # type: ignore[arg-type]
    assert_close(found.value, wanted)


class Says(nn.Module):
    """A network that puts out what it is given."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, x: Tensor, time: Tensor, taps: tuple[int, ...] | None = None) -> tuple[Tensor, None]:
        return self.output, None


@pytest.mark.parametrize("process", [GaussianProcess(), MeanShift()], ids=lambda p: p.registered_name)
@pytest.mark.parametrize("prediction", TARGETS)
def test_x0_is_found_in_whatever_the_network_puts_out(process: GaussianProcess, prediction: Target) -> None:
    """The output is that of a known x0; given positions hold one as well, which makes its own output of the anchor."""
    x0, eps, space = state(), torch.randn(2, 5, 4), EmbeddingSpace(11, 4)
    cond = Condition(x0, torch.arange(5).expand(2, 5) > 1)
    process = Denoiser(space, process, nn.Identity()).process
    x_t = process.q_sample(x0, T, eps, cond)
    output = process.convert(x0, x_t, T, "x0", prediction).detach()
    denoiser = Denoiser(space, process, Says(output), prediction)
    for to in TARGETS:
        found = denoiser.predict(x_t, T, cond, to=to, want=ALL - {"features"})
        assert_close(found.x0, x0, rtol=1e-4, atol=1e-4)
        assert_close(found.value, process.convert(x0, x_t, T, "x0", to), rtol=1e-4, atol=1e-3)
        assert found.logits is not None
        assert torch.equal(found.logits, space.logits(found.x0))
    assert torch.equal(denoiser.predict(x_t, T, cond, to=prediction).value, output)
    twin = sibling(denoiser)
    assert torch.equal(frozen(twin).predict(x_t, T, cond).x0, found.x0)


def test_x0_of_logits_is_a_mean_of_the_table(cond: Condition) -> None:
    """The output is a state; the space's head reads it, and its softmax weighs the table."""
    space = EmbeddingSpace(11, 4)
    denoiser = Denoiser(space, GaussianProcess(), Says(3 * state()), "logits")
    found = denoiser.predict(state(), T, cond, to="eps", want=frozenset({"logits"}))
    logits = 3 * state() @ space.table.T + space.lm_head.bias
    assert found.logits is not None
    assert_close(found.logits, logits)
    assert_close(found.x0, logits.softmax(-1) @ space.table)
    assert_close(found.value, denoiser.process.convert(found.x0, cond.apply(state()), T, "x0", "eps"))
    found.x0.sum().backward()
    assert space.table.grad is not None


@pytest.mark.parametrize("prediction", SOURCES)
def test_a_loss_is_taken_of_what_is_put_out(prediction: Source) -> None:
    learned = Denoiser(EmbeddingSpace(11, 4), GaussianProcess(), nn.Identity(), prediction).learned
    assert learned == {"score": "eps", "logits": "x0", "prior_logits": "x0"}.get(prediction, prediction)


def grads(module: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in module.parameters()]


def test_the_frozen_twin_agrees_and_leaves_no_gradient_behind(denoiser: Denoiser, cond: Condition) -> None:
    x, twin = state().requires_grad_(), state().requires_grad_()
    closed = frozen(denoiser).predict(x, T, cond, want=ALL)
    open_ = denoiser.predict(twin, T, cond, want=ALL)
    for ours, theirs in ((closed.x0, open_.x0), (closed.logits, open_.logits), (closed.features, open_.features)):
        assert ours is not None and theirs is not None
        assert torch.equal(ours, theirs)
    assert closed.logits is not None and open_.logits is not None
    (closed.x0.square().sum() + closed.logits.sum()).backward()
    assert grads(denoiser) == [None] * len(grads(denoiser))
    assert all(parameter.requires_grad for parameter in denoiser.parameters())
    (open_.x0.square().sum() + open_.logits.sum()).backward()
    assert x.grad is not None and twin.grad is not None
    assert_close(x.grad, twin.grad)
    assert x.grad[cond.mask].abs().sum() > 0
    assert not x.grad[~cond.mask].any()
    assert denoiser.space.table.grad is not None


def test_the_frozen_twin_follows_the_weights(denoiser: Denoiser, cond: Condition) -> None:
    twin = frozen(denoiser)
    before = twin.predict(state(), T, cond, want=ALL)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.mul_(1.5)
    after, wanted = (call(state(), T, cond, want=ALL) for call in (twin.predict, denoiser.predict))
    assert torch.equal(after.x0, wanted.x0)
    assert after.logits is not None and wanted.logits is not None
    assert torch.equal(after.logits, wanted.logits)  # the head reads the tied table
    assert not torch.equal(after.x0, before.x0)


def test_any_module_has_a_frozen_twin() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(4, 3, requires_grad=True)
    y = frozen(layer)(x)
    assert torch.equal(y, layer(x))
    y.sum().backward()
    assert x.grad is not None
    assert grads(layer) == [None, None]
