"""What teacher families promise."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlkit import backbones, spaces
from dlkit.denoiser import Denoiser
from dlkit.generator import load_teacher
from dlkit.recipe import Recipe
from dlkit.teachers._base import FitBatch, TeacherFamily
from dlkit.testing import _material as material
from dlkit.testing._promise import compiled, promise, require, require_close, require_equal
from dlkit.training.engine import TorchEngine
from dlkit.training.fit import Fitter
from dlkit.training.folder import RunFolder


def settings(part: TeacherFamily) -> dict[str, Any]:
    """A Recipe's settings for the family: its usual parts, with those settings that they are tried with."""
    model: dict[str, Any] = {"family": part.spec()}
    registries = {"space": spaces.registry, "backbone": backbones.registry}
    for kind, usual in part.usual.items():
        if kind in registries:
            said: dict[str, Any] = {"name": usual} if isinstance(usual, str) else usual
            usual = {**registries[kind].get(said["name"]).trial, **said}
        model[kind] = usual
    model["layout"] = "pairs"  # as the texts are here
    return {"model": model, "fit": part.usual_fit}


@contextmanager
def beginning(part: TeacherFamily) -> Iterator[tuple[Denoiser, FitBatch]]:
    """The network and the batch of a fit's first step."""
    recipe: Recipe = material.recipe(**settings(part))
    with tempfile.TemporaryDirectory() as out:
        folder = RunFolder(out, "train", recipe, {}, resume=False)
        fitter = Fitter(recipe, material.corpus(), TorchEngine(recipe.run), 0, folder, material.QUIET)
        draw = fitter.corpus.draw(recipe.fit.batch_size, 0, 0, torch.device("cpu"))
        t, weight = fitter.times.draw(torch.linspace(0.05, 0.95, len(draw.index), dtype=torch.float64))
        yield fitter.denoiser.eval(), next(iter(fitter.microbatches(draw, t, weight.float(), 0)))


def losses_of(part: TeacherFamily, denoiser: Denoiser, batch: FitBatch) -> dict[str, Tensor]:
    terms = part.losses(denoiser, batch)
    require(isinstance(terms, dict) and bool(terms), "losses gave no dict of terms")
    for name, term in terms.items():
        shape = tuple(term.shape)
        require(shape == (len(batch.ids),), f"term {name!r} has shape {shape}, not one number for each sample")
        require(term.isfinite().all(), f"term {name!r} holds NaN or infinity")
    return terms


@promise()
def has_losses(part: TeacherFamily) -> None:
    """Its losses are finite, one for each sample, and their gradient reaches the network."""
    with beginning(part) as (denoiser, batch):
        torch.stack([term.mean() for term in losses_of(part, denoiser, batch).values()]).sum().backward()
        still = [name for name, p in denoiser.backbone.named_parameters() if p.grad is None]
        require(not still, f"no gradient reaches {', '.join(still)}")


@promise()
def is_deterministic(part: TeacherFamily) -> None:
    """The same batch has the same losses, and a sample's loss does not depend on its batch mates."""
    with beginning(part) as (denoiser, batch), torch.no_grad():
        terms, again = (losses_of(part, denoiser, batch) for _ in range(2))
        order = [*range(1, len(batch.ids)), 0]
        turned = losses_of(part, denoiser, material.permuted(batch, order))
        for name, term in terms.items():
            require_equal(again[name], term, f"two calls of term {name!r} differ; draw no random numbers of your own")
            require_close(turned[name], term[order], f"term {name!r} depends on batch mates", 1e-4, 1e-5)


@promise(compiles=True)
def compiles(part: TeacherFamily) -> None:
    """Its losses compile as one graph and are what they are otherwise."""
    with beginning(part) as (denoiser, batch):
        terms, known = recorded(part, denoiser, batch)
        graph = compiled(lambda: part.losses(denoiser, known), "aot_eager")()
        for name, term in terms.items():
            require_close(graph[name], term, f"compiled term {name!r} differs")


def recorded(part: TeacherFamily, denoiser: Denoiser, batch: FitBatch) -> tuple[dict[str, Tensor], FitBatch]:
    """The losses, and the batch with all draws that they took, for a graph that can make none."""
    draws: dict[str, Tensor] = {}

    def kept(name: str, draw: Tensor) -> Tensor:
        draws[name] = draw
        return draw

    asked = replace(
        batch,
        normal=lambda name: kept(name, batch.normal(name)),
        uniform=lambda name, *shape: kept(f"{name} {shape}", batch.uniform(name, *shape)),
    )
    terms = part.losses(denoiser, asked)
    known = replace(batch, normal=lambda name: draws[name], uniform=lambda name, *shape: draws[f"{name} {shape}"])
    return terms, known


@promise(slow=True)
def fits(part: TeacherFamily) -> None:
    """`dlkit train` fits it for some steps, and the folder that this leaves writes texts."""
    model = load_teacher(material.fitted(**settings(part)))
    require(model.architecture.family == part, "the folder holds another family")
    texts = model.generate(list(material.SOURCES), steps=2)
    require(texts == model.generate(list(material.SOURCES), steps=2), "texts change from call to call")
