"""``Recipe(teacher=..., objective="sid", adv=True)``: every family, with a source and without."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from dlkit import spaces, teachers
from dlkit.data.pairs import read_split
from dlkit.data.texts import write_texts
from dlkit.errors import UserError
from dlkit.generator import load_student
from dlkit.part import from_spec
from dlkit.recipe import Recipe
from dlkit.training.distill import distill
from dlkit.training.engine import TorchEngine
from dlkit.training.fit import fit
from dlkit.training.stage import StageRun

SMALL: dict[str, Any] = {
    "diffuseq": {"layers": 1, "hidden": 16, "heads": 2, "ff": 16, "time_dim": 8, "max_positions": 24},
    "plaid": {"layers": 1, "hidden": 16, "heads": 2},
    "flm": {"layers": 1, "hidden": 16, "heads": 2, "cond": 8},
}


def recipe(family: str, layout: str, **more: Any) -> Recipe:
    model = {
        **{"layout": layout, "seq_len": 24, "tokenizer": "train:word:60"},
        "backbone": {"name": family, **SMALL[family]},
    }
    settings = {"batch_size": 4, "stages": [{"steps": 2}], "evaluation": {"every": 2, "n_sources": 2, "steps": 2}}
    run = {"device": "cpu", "log_every": 1, "checkpoint_every": 2}
    return Recipe(teacher=family, model=model, fit={"steps": 2, "batch_size": 4}, run=run, **settings, **more)  # type: ignore[call-arg, arg-type]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pairs, and their targets alone."""
    root = tmp_path_factory.mktemp("data")
    pairs = tiny.corpus(root / "pairs")
    for split in ("train", "valid"):
        write_texts(root / "padded" / f"{split}.jsonl", [pair.trg for pair in read_split(pairs, split, 64)])
    return {"pairs": pairs, "padded": root / "padded"}


@pytest.mark.parametrize("layout", ["pairs", "padded"])
@pytest.mark.parametrize("family", SMALL)
def test_it_is_fitted_and_distilled(family: str, layout: str, folders: dict[str, Path], tmp_path: Path) -> None:
    teacher = fit(recipe(family, layout), folders[layout], tmp_path / "fit").teacher
    again = recipe(family, layout, objective="sid", adv=True)
    student = load_student(distill(again, teacher, folders[layout], tmp_path / "run").student)
    assert student.architecture.family.registered_name == family
    tokens = student.generate_tokens(["how is it ?"] if layout == "pairs" else None, num_samples=2)
    assert [len(group) for group in tokens] == [2]
    assert torch.isfinite(torch.cat([p.flatten() for p in student.denoiser.parameters()])).all()


@pytest.mark.parametrize("family", SMALL)
def test_squared_errors_count_in_units_of_the_states(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """A mean over the coordinates of one-hot states is V times smaller than that of a table's unit states."""
    losses: list[torch.Tensor] = []

    class Listening(TorchEngine):
        def backward(self, loss: torch.Tensor, *args: Any, **options: Any) -> None:
            losses.append(loss.detach())
            super().backward(loss, *args, **options)

    teacher = fit(recipe(family, "padded"), folders["padded"], tmp_path / "fit").teacher
    again = recipe(family, "padded", objective="sid", adv=True)
    distiller = tiny.distiller_of(again, teacher, folders["padded"], tmp_path / "run", Listening(again.run))
    values = StageRun(distiller, 0, None).step(0)
    unit = distiller.model.architecture.vocab_size if family == "flm" else 1
    expected = 0.5 * unit * values["critic_denoising"] + 0.5 * values["critic_adversarial"]
    torch.testing.assert_close(losses[0] + losses[1], expected)  # of generated and of real text


def test_a_family_brings_what_its_teachers_usually_are() -> None:
    short = Recipe(teacher="flm")  # type: ignore[call-arg]
    assert short == Recipe.from_dict({"model": {"family": "flm"}})
    assert short.model.space == from_spec(spaces.registry, "one_hot")
    assert (short.model.prediction, short.fit.time_sampler.registered_name) == ("logits", "stratified")  # type: ignore[attr-defined]
    assert Recipe(teacher="plaid", model={"layout": "packed"}).model.layout == "packed"  # type: ignore[call-arg, arg-type]


def test_wrong_teachers_are_told() -> None:
    with pytest.raises(UserError, match="nothing is called 'plad'; did you mean 'plaid'"):
        Recipe(teacher="plad")  # type: ignore[call-arg]
    for folder in ("r/flm", "./flm", str(Path(__file__).parent), Path("flm")):
        with pytest.raises(UserError, match=r"is no family but a path; a folder goes to distill\(teacher=\.\.\.\)"):
            Recipe(teacher=folder)  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"teacher and model\.family say the same"):
        Recipe(teacher="flm", model={"family": "plaid"})  # type: ignore[call-arg, arg-type]
    assert set(SMALL) <= set(teachers.names())
