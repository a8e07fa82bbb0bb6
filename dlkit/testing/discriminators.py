"""What discriminator heads promise."""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit import objectives
from dlkit.discriminators._base import Head
from dlkit.part import from_spec
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal
from dlkit.testing.objectives import Scene, elsewhere, noised


def scene_of(part: Head, critic: bool = True) -> Scene:
    """The turn of an adversary with this head."""
    return Scene.of(from_spec(objectives.registry, {"name": "adversarial", "head": part.spec()}), critic)


def logits(scene: Scene, change: Any = lambda state: state) -> Tensor:
    return scene.turn.discriminator(change(noised(scene, "fake")))


def logits_of(head: nn.Module) -> Tensor:
    return head(material.normal("features", material.LENGTH, material.HIDDEN), material.mask())


def counted(found: Tensor) -> Tensor:
    """The logits that count: all, if there is one for each sample, or those of generated positions."""
    return found[material.mask()] if found.ndim == 2 else found


@promise()
def gives_logits(part: Head) -> None:
    """One finite logit for each sample, or for each of its positions, in any batch the same."""
    scene = scene_of(part)
    found, whole = logits(scene), (material.BATCH, material.LENGTH)
    require(tuple(found.shape) in (whole[:1], whole), f"the logits have shape {tuple(found.shape)}, not [b] or [b, l]")
    require(found.isfinite().all(), "a logit is not finite")
    require_equal(logits(scene), found, "two calls differ")
    order = [2, 0, 3, 1]
    other = logits(scene, lambda state: material.permuted(state, order))
    require_close(other, found[order], "a sample's logit depends on its batch mates", 1e-9, 1e-12)


@promise()
def reads_generated_positions(part: Head) -> None:
    """Features of given positions do not matter, and those of generated ones do."""
    scene = scene_of(part)
    wanted = counted(logits(scene))
    require_close(counted(logits(scene, elsewhere)), wanted, "a given position changes the logit", 1e-9, 1e-12)
    other = counted(scene.turn.discriminator(noised(scene, "other")))
    require((other != wanted).all(), "the logit is the same for other features")


@promise()
def bears_an_empty_mask(part: Head) -> None:
    """A sample without generated positions has a finite logit."""
    head = material.seeded(part.build, material.HIDDEN)
    found = head(material.normal("features", material.LENGTH, material.HIDDEN), torch.zeros_like(material.mask()))
    require(found.isfinite().all(), "a logit is not finite where the mask is empty")


@promise()
def learns(part: Head) -> None:
    """Gradients reach its parameters in the critic's turn, and the states alone in the generator's."""
    scene = scene_of(part)
    logits(scene).square().sum().backward()
    head = scene.networks.head
    assert head is not None
    still = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    require(not still, f"no finite gradient reaches {', '.join(still)}")
    scene = scene_of(part, critic=False)
    state = noised(scene, "fake", grad=True)
    scene.turn.discriminator(state).square().sum().backward()
    require(state.x0.grad is not None and (state.x0.grad != 0).any(), "no gradient reaches the states")


@promise()
def is_kept(part: Head) -> None:
    """It is a function of the seed, and the same after saving and loading."""
    head, again = (material.seeded(part.build, material.HIDDEN).eval() for _ in range(2))
    wanted = logits_of(head)
    require_equal(logits_of(again), wanted, "its weights do not follow torch's seed")
    fresh = material.seeded(part.build, material.HIDDEN, seed=1).eval()
    fresh.load_state_dict(material.stored(head))
    require_equal(logits_of(fresh), wanted, "the logit changes when it is saved and loaded")


@promise(compiles=True)
def compiles(part: Head) -> None:
    """Compiled as one graph it gives the logits that it gives otherwise."""
    head = material.seeded(part.build, material.HIDDEN).eval()
    with torch.no_grad():
        require_close(logits_of(compiled(head)), logits_of(head), "the compiled logit differs", 1e-4, 1e-5)  # type: ignore[arg-type]
