"""Networks that put out something else than x0, from fitting to a student."""

import json
from pathlib import Path

import pytest
import torch

import tiny
from dlkit.diffusion.parameterization import SOURCES, Source
from dlkit.errors import UserError
from dlkit.generator import load_student, load_teacher
from dlkit.recipe import Recipe
from dlkit.training.folder import read_log

SOURCE = ["how do i learn python ?"]


@pytest.mark.parametrize("prediction", SOURCES)
def test_from_fitting_to_a_student(prediction: Source, data: Path, tmp_path: Path) -> None:
    folder = tiny.run_fit(data, tmp_path / "fit", model={"prediction": prediction})
    assert json.loads((folder / "config.json").read_text())["prediction"] == prediction
    teacher = load_teacher(folder)
    assert teacher.denoiser.prediction == prediction
    for sampler in ("ddim", "ancestral", "dpm_solver_pp_2m"):
        assert teacher.generate(SOURCE, sampler=sampler, steps=5)
    stages = [{"steps": 2, "objective": {"name": "ode_regression", "pairs": 8, "steps": 2}}, {"steps": 2}]
    student = load_student(tiny.run_distill(folder, data, tmp_path / "distill", stages=stages, adv=True))
    assert student.denoiser.prediction == prediction
    assert student.recipe.model.prediction == prediction
    assert student.generate(SOURCE) == student.generate(SOURCE)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("prediction", ["v", pytest.param("eps", marks=SLOW), pytest.param("logits", marks=SLOW)])
def test_the_loss_falls(prediction: Source, data: Path, tmp_path: Path) -> None:
    fit = {"steps": 40, "batch_size": 16, "optimizer": {"lr": 1e-2}}
    tiny.run_fit(data, tmp_path / "fit", fit=fit, model={"prediction": prediction})
    losses = [line["loss"] for line in read_log(tmp_path / "fit" / "log.jsonl") if line["kind"] == "fit"]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_same_weights_mean_something_else(data: Path, tmp_path: Path) -> None:
    """A teacher of x0 whose folder claims eps says otherwise: the setting is read, not guessed."""
    folder = tiny.run_fit(data, tmp_path / "fit")
    config = json.loads((folder / "config.json").read_text())
    x_t, t = torch.randn(1, 24, 8), torch.tensor([0.5], dtype=torch.float64)
    before = load_teacher(folder).denoiser.predict(x_t, t, None).x0
    (folder / "config.json").write_text(json.dumps({**config, "prediction": "eps"}))
    process, after = load_teacher(folder).denoiser.process, load_teacher(folder).denoiser.predict(x_t, t, None)
    torch.testing.assert_close(after.x0, process.convert(before, x_t, t, "eps", "x0"))


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.prediction: .*'velocity'"):
        Recipe.from_dict({"model": {"prediction": "speed"}})
