"""The original's four files: every tensor comes in as it is, goes out again the same, and is where it belongs."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from dlkit.exchange import export_teacher, import_teacher
from dlkit.generator import load_teacher
from dlkit.teachers._tensors import read_tensors
from parity.cases import Case
from parity.plaid_network import FILES, ours
from plaid_tokenizer import write_tokenizer


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as out:
        run = Path(out) / "run"
        run.mkdir()
        for file in FILES:
            shutil.copy(case.folder / f"{file}.pt", run)
        write_tokenizer(run / "owt2_tokenizer.json", case.config["vocab_size"])
        check_the_way_in(case, run, Path(out) / "model")
        export_teacher(Path(out) / "model", Path(out) / "again")
        for file in FILES:
            written, _ = read_tensors(Path(out) / "again" / f"{file}.pt")
            assert list(written) == list(read_tensors(case.folder / f"{file}.pt")[0])
            assert_equal(written, case.arrays(file))
        first, second = (load_teacher(Path(out) / name) for name in ("model", "again"))
        assert first.architecture == second.architecture
        assert_equal(second.denoiser.state_dict(), first.denoiser.state_dict())


def check_the_way_in(case: Case, run: Path, out: Path) -> None:
    found = import_teacher(run, out)
    assert {key.status for key in found.keys} == {"used"}
    tensors = {f"{file}.{name}": tensor for file in FILES for name, tensor in case.arrays(file).items()}
    denoiser = load_teacher(out).denoiser
    assert_equal(denoiser.state_dict(), ours(tensors))
    counts = case.meta["parameter_count"]
    assert sum(p.numel() for p in denoiser.parameters()) == sum(counts.values())
    config, backbone = case.config, json.loads((out / "config.json").read_text())["backbone"]
    sizes = {"layers": config["n_blocks"], "hidden": config["dim"], "heads": config["n_heads"]}
    assert backbone == {"name": "plaid", **sizes}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
