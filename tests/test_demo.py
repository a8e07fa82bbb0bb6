"""The demo's own decisions; its parts are tested where they live, and the whole by running it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dlkit import demo, recipes
from dlkit.errors import UserError
from dlkit.evaluation.evaluate import Row
from dlkit.files import read_json
from dlkit.generator import load_teacher
from dlkit.training.progress import Reporter


def row(**metrics: float) -> Row:
    return Row("a", "teacher", {"name": "ddim"}, 1, 0, 10, 1, metrics, {}, 0.1)


@pytest.mark.parametrize(
    ("student", "holds"),
    [
        (
            {"bleu": 0.475, "exact_validity": 0.725, "distinct_valid": 0.325, "copy_rate": 0.07},
            [True, True, True, True],
        ),
        ({"bleu": 0.474, "exact_validity": 0.71, "distinct_valid": 0.31, "copy_rate": 0.08}, [False] * 4),
    ],
)
def test_targets_are_shares_of_the_teachers_numbers(student: dict[str, float], holds: list[bool]) -> None:
    teacher = row(bleu=0.5, exact_validity=0.8, distinct_valid=0.8, copy_rate=0.02)
    assert [target["holds"] for target in demo.targets(teacher, row(**student))] == holds


def test_a_folder_is_its_demos_alone(tmp_path: Path) -> None:
    mine: dict[str, Any] = {"demo": 1, "seed": 0, "from_scratch": False}
    demo._claim(tmp_path / "new", mine)
    demo._claim(tmp_path / "new", mine)  # the same demo goes on
    with pytest.raises(UserError, match="holds a demo with other options"):
        demo._claim(tmp_path / "new", {**mine, "seed": 1})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds other files"):
        demo._claim(tmp_path / "other", mine)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"


def test_a_kill_while_the_teacher_is_copied_leaves_no_half_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(source: Path, target: Path, dirs_exist_ok: bool) -> None:
        shutil.copy(source / "config.json", target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo.shutil, "copytree", cut)
        with pytest.raises(KeyboardInterrupt):
            demo._provide_teacher(tmp_path, recipes.get("demo"), False, Reporter(quiet=True))
    assert not (tmp_path / "teacher").exists()
    demo._provide_teacher(tmp_path, recipes.get("demo"), False, Reporter(quiet=True))
    assert load_teacher(tmp_path / "teacher").kind == "teacher"


def test_the_shipped_scores_fit_the_settings() -> None:
    scores = read_json(demo.SHIPPED / demo.SCORES)
    assert [r["name"] for r in scores["rows"]] == [setting.name for setting in demo.SETTINGS]
    assert all(
        r["n_sources"] >= 1000 and r["num_samples"] == s.samples
        for r, s in zip(scores["rows"], demo.SETTINGS, strict=True)
    )
    assert scores["chosen"] == max(scores["valid"], key=scores["valid"].__getitem__)
    assert max(r["metrics"]["exact_validity"] for r in scores["rows"]) >= 0.80
