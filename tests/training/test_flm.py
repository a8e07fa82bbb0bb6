"""A teacher of one-hot states is fitted and distilled like any other."""

from typing import Any

import pytest
import torch

from dlkit.generator import load_student, load_teacher
from dlkit.testing import _material as material
from dlkit.training.distill import distill

FLM: dict[str, Any] = {
    "family": "flm",
    "layout": "pairs",
    **{"space": "one_hot", "process": {"name": "gaussian", "schedule": "token_accuracy"}, "prediction": "logits"},
    "backbone": {"name": "flm", "layers": 1, "hidden": 16, "heads": 2, "cond": 8, "dropout": 0.0},
    "tokenizer": "train:word:60",
}
FIT = {"steps": 4, "batch_size": 8, "time_sampler": "stratified", "optimizer": {"lr": 1e-2}}


@pytest.fixture(scope="module")
def teacher() -> Any:
    return material.fitted(model=FLM, fit=FIT)


def test_it_is_fitted_and_writes(teacher: Any) -> None:
    model = load_teacher(teacher)
    assert model.architecture.process.schedule.vocab_size == model.architecture.vocab_size
    for sampler in ({"name": "euler"}, {"name": "ddim"}, {"name": "ancestral"}):
        texts = model.generate(list(material.SOURCES), steps=3, sampler=sampler, decoder="nearest")
        assert texts == model.generate(
            list(material.SOURCES), steps=3, sampler=sampler, decoder="nearest", batch_size=1
        )


@pytest.mark.parametrize(
    "how",
    [
        {"objective": "sid", "adv": True},
        {"objective": {"name": "dmd"}, "anchor": True},
    ],
    ids=["sid with an adversary", "dmd with an anchor"],
)
def test_it_is_distilled(teacher: Any, how: dict[str, Any], tmp_path: Any) -> None:
    recipe = material.recipe(stages=[{"steps": 3}], t_init=1.0, decoder="nearest", **how)
    folder = distill(recipe, teacher, material.corpus(), tmp_path / "run", reporter=material.QUIET).student
    student, before = load_student(folder), load_teacher(teacher).denoiser.state_dict()
    after = student.denoiser.state_dict()
    assert all(weights.isfinite().all() for weights in after.values())
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert len(student.generate(list(material.SOURCES), num_samples=2)) == len(material.SOURCES)
