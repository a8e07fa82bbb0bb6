"""FLM's weights: names, their order, and the checkpoint that Lightning wrote, read without running any of it."""

import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dlkit.backbones.flm import FlmBackbone
from dlkit.exchange import export_teacher, import_teacher
from dlkit.generator import load_teacher
from dlkit.teachers._base import ReadOptions
from dlkit.teachers._unpickle import load_inert, plain
from parity.cases import Case
from parity.flm_network import spec

BUFFER = "rotary_emb.inv_freq"


def check(case: Case) -> None:
    for name, order in case.meta["ema_parameter_order"].items():
        check_names(case, name, order)
    check_what_the_file_says(case)
    with TemporaryDirectory() as base:
        check_the_checkpoint(case, Path(base))


def check_names(case: Case, name: str, order: list[str]) -> None:
    """The network has these parameters in this order, and takes both sets of weights."""
    two, tokens = name != "flm", case.config["vocab_size"]
    network: FlmBackbone = spec(case, two_times=two, loss_weighting=two).build(tokens, tokens)
    assert [parameter for parameter, _ in network.named_parameters()] == order
    raw, averaged = (case.arrays(f"{name}_{kind}") for kind in ("raw", "ema"))
    assert raw.keys() == {f"backbone.{key}" for key in network.state_dict()}
    assert averaged.keys() == raw.keys() - {f"backbone.{BUFFER}"}
    assert_close(network.rotary_emb.inv_freq, raw[f"backbone.{BUFFER}"], rtol=2e-7, atol=0)  # powers differ by machine
    for weights in (raw, averaged):
        network.load_state_dict({key.removeprefix("backbone."): value for key, value in weights.items()}, strict=False)


def check_what_the_file_says(case: Case) -> None:
    """PyTorch's own restricted reader refuses the file; its settings are read all the same, as they are."""
    file = case.folder / "flm.ckpt"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    content = load_inert(file)
    assert list(content) == case.meta["ckpt_top_level_keys"]
    assert plain(content["hyper_parameters"])["config"] == case.meta["ckpt_hyper_parameters"]
    assert content["ema"]["decay"] == case.config["ema_decay"]
    assert content["ema"]["num_updates"] == case.config["ema_num_updates"]["flm"]


def check_the_checkpoint(case: Case, base: Path) -> None:
    """Either set of weights arrives tensor by tensor, with the settings, and comes back from a way out and in."""
    options = {"tokenizer": str(vocabulary(case, base))}
    for kind, raw in (("ema", False), ("raw", True)):
        found = import_teacher(case.folder / "flm.ckpt", base / kind, ReadOptions(**options, raw=raw))
        teacher = load_teacher(base / kind)
        assert_equal(teacher.denoiser.state_dict(), case.arrays("flm_raw") | case.arrays(f"flm_{kind}"))
        assert found.warnings == ()
        arch, fit = teacher.architecture, teacher.recipe.fit
        assert arch.backbone == spec(case)
        assert (arch.vocab_size, arch.seq_len) == (case.config["vocab_size"], case.config["length"])
        assert (fit.ema, fit.steps) == (case.config["ema_decay"], case.config["steps"]["flm"])
        export_teacher(base / kind, base / f"{kind}-out")
        again = import_teacher(base / f"{kind}-out", base / f"{kind}-again")
        assert_equal(load_teacher(base / f"{kind}-again").denoiser.state_dict(), teacher.denoiser.state_dict())
        assert again.parts.backbone == arch.backbone
        torch.load(base / f"{kind}-out" / "flm.ckpt", weights_only=True)


def vocabulary(case: Case, base: Path) -> Path:
    """Some words, as many as the network knows: the checkpoint's own are behind its pickled tokenizer."""
    words = ["[START]", "[END]", "[UNK]", "[PAD]", *(f"w{n}" for n in range(case.config["vocab_size"] - 4))]
    file = base / "vocab.json"
    file.write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    return file


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
