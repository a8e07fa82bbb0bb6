"""The benchmarks, in a process of their own."""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from dlkit.cli._app import app
from dlkit.errors import UserError
from dlkit.files import cannot_write


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="a minute: small sizes, few rounds, 70 % of each bar")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="file for the run: its rows, times and limits")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda; a GPU's bars are told, not checked")] = "cpu",
) -> None:
    """Measure dlkit beside plain references; exit code 1 if a ratio misses its bar."""
    folder = _folder()
    lacking = [name for name in ("pytest", "pytest_benchmark", "nltk") if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(f"dlkit bench needs {', '.join(lacking)}; install the extra test: pip install 'dlkit-lm[test]'")
    _check_device(device)
    options = ["--device", device, *["--quick"] * quick]
    if json is not None:
        _check_writable(json)
        options += ["--json", str(json.absolute())]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder), *options]
    raise typer.Exit(int(subprocess.run(command).returncode != 0))


def _folder() -> Path:
    """Where the benchmarks are: a wheel has them inside the package, a checkout beside it."""
    package = Path(__file__).parents[1]
    for folder in (package / "_bench/benchmarks", package.parent / "benchmarks"):
        if (folder / "versus.py").is_file():
            return folder
    raise UserError(f"{package} came without its benchmarks; install dlkit-lm from a wheel, or work in a checkout")


def _check_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: give cpu or cuda")
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is none that PyTorch can use; leave it out to run on the CPU")


def _check_writable(file: Path) -> None:
    """Before minutes are spent on what could not be kept."""
    if file.is_dir():
        raise UserError(f"--json {file} is a folder; give a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise cannot_write(file, error) from None
