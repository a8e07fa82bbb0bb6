"""The command, and whole runs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from command_line import refused

ROOT = Path(__file__).parents[2]
Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "tpu"], ["--device tpu", "cpu or cuda"]),
        (["--json", "{folder}"], ["is a folder", "give a file"]),
        (["--json", "{file}/run.json"], ["cannot write"]),
        (["--rounds", "3"], ["--rounds"]),
    ],
)
def test_a_wrong_option_is_one_line(command: Command, tmp_path: Path, options: list[str], words: list[str]) -> None:
    (tmp_path / "file").write_text("kept")
    given = [option.format(folder=tmp_path, file=tmp_path / "file") for option in options]
    refused(command("bench", *given), *words)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_is_not_there_is_one_line(command: Command) -> None:
    refused(command("bench", "--device", "cuda"), "--device cuda", "there is none")


def test_a_missing_package_is_named_with_the_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    lacking = lambda name, *rest: None if name == "pytest_benchmark" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", lacking)
    refused(command("bench"), "needs pytest_benchmark;", "dlkit-lm[test]")


@pytest.mark.parametrize(("child", "code"), [(0, 0), (1, 1), (3, 1)])
def test_a_missed_bar_is_an_exit_code(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, child: int, code: int
) -> None:
    called: list[list[str]] = []

    def run(words: list[str]) -> SimpleNamespace:
        called.append(words)
        return SimpleNamespace(returncode=child)

    monkeypatch.setattr(subprocess, "run", run)
    assert command("bench", "--quick", "--json", tmp_path / "new/run.json")[0] == code
    (words,) = called
    assert words[:3] == [sys.executable, "-m", "pytest"]
    assert str(ROOT / "benchmarks") in words
    assert "--quick" in words
    assert words[words.index("--json") + 1] == str(tmp_path / "new/run.json")


def test_wheels_hold_the_benchmarks_where_the_command_looks() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"benchmarks": "dlkit/_bench/benchmarks"}
    assert '"_bench/benchmarks"' in (ROOT / "dlkit/cli/bench.py").read_text()


ROWS = """
def test_of_a_row(versus, quick, device):
    assert quick
    versus("slower", ours=lambda: sum(range(400000)), reference=lambda: sum(range(20000)), bar=2.0)
    versus("faster", ours=lambda: sum(range(10000)), reference=lambda: sum(range(400000)), bar=2.0)
    versus.compare("smaller", ours=1, reference=2, bar=0.5)
"""


@pytest.mark.slow
def test_a_whole_run(tmp_path: Path) -> None:
    """A folder of one benchmark that misses one bar of three: all its rows are written, and the run fails."""
    folder = tmp_path / "benchmarks"
    shutil.copytree(ROOT / "benchmarks", folder, ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    (folder / "test_row.py").write_text(ROWS)
    command = [sys.executable, "-m", "pytest", "-q", str(folder), "--quick", "--json", str(tmp_path / "run.json")]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^slower: ratio 0\.\d+, must be at least 1\.4$", done.stdout, re.MULTILINE)
    run = json.loads((tmp_path / "run.json").read_text())
    assert [(row["name"], row["missed"]) for row in run["rows"]] == [
        ("slower", True),
        ("faster", False),
        ("smaller", False),
    ]
    assert run["complete"]
    assert run["limits"]["copy"] > 1e8
    assert all("limit_share" in row for row in run["rows"][:2])
    shutil.copy(folder / "test_row.py", folder / "test_row_2.py")
    subprocess.run([*command, "-x"], capture_output=True, cwd=ROOT, env=alone)
    assert not json.loads((tmp_path / "run.json").read_text())["complete"]  # it ended at the first that missed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["tests/test_part.py", "benchmarks/"], "alone"),
        (["benchmarks/", "-n", "2"], "-n"),
        (["benchmarks/", "--device", "x"], "'x'"),
    ],
)
def test_what_would_measure_nothing_is_refused(words: list[str], why: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 4
    assert why in done.stderr
