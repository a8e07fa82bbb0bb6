"""What backbones promise."""

import copy

import torch
from torch import Tensor

from dlkit.backbones._base import Backbone
from dlkit.denoiser import Denoiser, Prediction, frozen
from dlkit.generator import load_teacher
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal, require_like

WANT = frozenset({"x0", "features"})


def built(part: Backbone, seed: int = 0) -> Denoiser:
    network = material.seeded(part.build, material.DIM, material.VOCABULARY, seed=seed)
    return material.denoiser(material.begun(network, seed))


def predicted(denoiser: Denoiser, x: Tensor | None = None, rows: slice = slice(None)) -> Prediction:
    cond = material.permuted(material.condition(), list(range(material.BATCH))[rows])
    x = material.normal("x") if x is None else x
    t = material.times()[rows]
    return denoiser.predict(x[rows], t, cond, end=t / 2 if denoiser.two_times else None, want=WANT)


@promise(variants=False)
def predicts_x0_and_features(part: Backbone) -> None:
    """x0 is shaped as the state, and features are as wide as feature_dim."""
    denoiser = built(part)
    found, shape = predicted(denoiser), (material.BATCH, material.LENGTH)
    require_like(found.x0, "x0", (*shape, material.DIM), torch.float32)
    require(found.features is not None, "there are no features where a tap is given")
    require_like(found.features, "features", (*shape, denoiser.backbone.feature_dim), torch.float32)  # type: ignore[arg-type]
    end = material.times() / 2 if denoiser.two_times else None
    alone = denoiser.predict(material.normal("x"), material.times(), material.condition(), end=end)
    require_close(alone.x0, found.x0, "x0 changes when features are asked for too")


@promise(variants=False)
def takes_other_sizes(part: Backbone) -> None:
    """Shorter sequences, single samples and another width of the state are taken; own logits are as many as tokens.

    A residual is a state's width more.
    """
    for dim, length in ((material.DIM, 1), (material.DIM + 3, 5), (16, material.LENGTH)):
        network = material.seeded(part.build, dim, material.VOCABULARY).eval()
        found, _ = network(torch.ones(1, length, dim), torch.ones(1, dtype=torch.float64), None)
        width = material.VOCABULARY if getattr(network, "own_logits", False) else dim
        width += dim if getattr(network, "residual", False) else 0
        what = f"what it says of one sample with {length} positions of width {dim}"
        require_like(found, what, (1, length, width), torch.float32)


@promise(variants=False)
def keeps_samples_apart(part: Backbone) -> None:
    """Out of training it is a function of its input, and no sample changes another."""
    denoiser = built(part)
    whole = predicted(denoiser)
    require_equal(predicted(denoiser).x0, whole.x0, "two calls differ in evaluation mode")
    for rows in (slice(0, 1), slice(1, 4)):
        require_close(predicted(denoiser, rows=rows).x0, whole.x0[rows], "x0 depends on batch mates", 1e-4, 1e-5)


@promise(variants=False)
def learns(part: Backbone) -> None:
    """Gradients reach the state and every parameter, and through the frozen twin the state alone."""
    denoiser, x = built(part).requires_grad_(True), material.normal("x").requires_grad_()
    with torch.no_grad():  # layers that begin at zero let nothing through
        for number, p in enumerate(denoiser.backbone.parameters()):
            p += 0.05 * material.seeded(torch.randn, *p.shape, seed=number)
    frozen(denoiser).predict(x, material.times(), material.condition()).x0.square().sum().backward()
    require(x.grad is not None and x.grad.isfinite().all() and (x.grad != 0).any(), "no gradient reaches the state")
    left = [name for name, p in denoiser.backbone.named_parameters() if p.grad is not None]
    require(
        not left, f"the frozen twin leaves a gradient in {', '.join(left)}; a parameter is kept outside parameters()"
    )
    predicted(denoiser).x0.square().sum().backward()
    still = [n for n, p in denoiser.backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    require(not still, f"no finite gradient reaches {', '.join(still)}")


@promise(variants=False)
def is_kept(part: Backbone) -> None:
    """It is a function of the seed, and the same after copying and after saving and loading."""
    denoiser = built(part)
    wanted = predicted(denoiser).x0
    require_equal(predicted(built(part)).x0, wanted, "its weights do not follow torch's seed")
    require_equal(predicted(copy.deepcopy(denoiser)).x0, wanted, "a copy predicts otherwise")
    other = built(part, seed=1)
    other.backbone.load_state_dict(material.stored(denoiser.backbone))
    require_equal(predicted(other).x0, wanted, "it predicts otherwise when it is saved and loaded")


@promise(slow=True)
def is_a_teacher(part: Backbone) -> None:
    """`dlkit train` fits it, and the folder that this leaves writes texts."""
    prediction = "logits" if getattr(built(part).backbone, "own_logits", False) else "x0"
    model = load_teacher(material.fitted(model={"backbone": part.spec(), "prediction": prediction}))
    require(model.architecture.backbone == part, "the folder holds other settings")
    texts = model.generate(list(material.SOURCES), steps=2)
    require(texts == model.generate(list(material.SOURCES), steps=2, batch_size=1), "texts depend on batch mates")


@promise(compiles=True)
def compiles(part: Backbone) -> None:
    """Compiled as one graph it predicts what it predicts otherwise."""
    network = built(part).backbone
    x, t = material.normal("x"), material.times()
    with torch.no_grad():
        one, other = compiled(network)(x, t, None)[0], network(x, t, None)[0]
    require_close(one, other, "the compiled prediction differs", 1e-4, 1e-5)
