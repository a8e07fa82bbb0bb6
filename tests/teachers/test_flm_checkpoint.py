"""Reading FLM's checkpoints: nothing in them runs, and what does not fit is told in a line."""

import json
import os
import pickle
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import Command, refused
from dlkit.backbones.flm import FlmSpec
from dlkit.errors import UserError
from dlkit.generator import Teacher, load_teacher, read_official
from dlkit.teachers import _unpickle
from dlkit.teachers._base import ReadOptions
from dlkit.teachers._sniff import sniff
from dlkit.teachers._unpickle import Placeholder, StoredTensor, load_inert, plain

V, SIZES = 12, {"layers": 2, "hidden": 8, "heads": 2, "cond": 6}
WORDS = ["[START]", "[END]", "[UNK]", "[PAD]", *(f"w{n}" for n in range(V - 4))]


def vocabulary(folder: Path, words: list[str] = WORDS) -> Path:
    file = folder / "vocab.json"
    file.write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    return file


def content(prefix: str = "backbone.", **settings: Any) -> dict[str, Any]:
    """What a checkpoint holds; the averaged weights are one more than the others."""
    torch.manual_seed(0)
    network = FlmSpec(**SIZES, **settings).build(V, V)
    return {
        "state_dict": {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()},
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": [p.detach() + 1.0 for p in network.parameters()]},
        "global_step": 7,
        "hyper_parameters": {"config": {"model": {"length": 16, "n_heads": 2}, "algo": {"name": "flm"}}},
    }


def saved(folder: Path, made: Any, name: str = "model.ckpt") -> Path:
    vocabulary(folder)
    torch.save(made, folder / name)
    return folder / name


def read(path: Path, **options: Any) -> Teacher:
    return read_official(path, ReadOptions(**options))[0]


@pytest.mark.parametrize("prefix", ["backbone.", "backbone._orig_mod."])
@pytest.mark.parametrize("settings", [{}, {"two_times": True, "loss_weighting": True}], ids=["one time", "two times"])
def test_weights_arrive(prefix: str, settings: dict[str, Any], tmp_path: Path) -> None:
    made = content(prefix, **settings)
    made["state_dict"]["teacher.backbone.vocab_embed.embedding"] = torch.zeros(V, 8)
    file = saved(tmp_path, made)
    family = sniff(file)
    assert family is not None
    assert family.registered_name == "flm"
    teacher, raw = read(file), read(tmp_path, raw=True)
    assert teacher.architecture.backbone == FlmSpec(**SIZES, **settings)
    assert (teacher.architecture.layout, teacher.architecture.seq_len) == ("packed", 16)
    for name, tensor in made["state_dict"].items():
        if name.startswith(prefix) and "inv_freq" not in name:
            ours = f"backbone.{name.removeprefix(prefix)}"
            assert torch.equal(raw.denoiser.state_dict()[ours], tensor)
            assert torch.equal(teacher.denoiser.state_dict()[ours], tensor + 1.0)
    teacher.save_pretrained(tmp_path / "folder")
    assert load_teacher(tmp_path / "folder").architecture == teacher.architecture


def drop(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda made: made.pop(key)


def reshape(made: dict[str, Any]) -> None:
    shadow = made["ema"]["shadow_params"]
    shadow[0], shadow[5] = shadow[5], shadow[0]


def diverge(made: dict[str, Any]) -> None:
    made["ema"]["shadow_params"][3][0] = float("nan")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda made: made["ema"]["shadow_params"].pop(),
            "ema.shadow_params has 29 tensors, the network 30 parameters",
        ),
        (reshape, r"ema.shadow_params\[0\] has shape .*, but vocab_embed.embedding in its place has \(12, 8\)"),
        (diverge, "holds values that are not finite"),
        (drop("state_dict"), "has no state_dict"),
        (lambda made: made["state_dict"].pop("backbone.vocab_embed.embedding"), "lacks backbone.vocab_embed.embedding"),
        (lambda made: made["state_dict"].pop("backbone.blocks.1.norm1.weight"), "lacks backbone.blocks.1.norm1.weight"),
        (lambda made: made["state_dict"].update({"noise.gamma": torch.zeros(1)}), "has noise.gamma, which is unknown"),
        (lambda made: made["hyper_parameters"]["config"]["model"].update(n_blocks=3), "n_blocks=3, its weights say 2"),
        (lambda made: made["hyper_parameters"]["config"]["model"].update(n_heads=4), "4 heads are said"),
    ],
)
def test_what_does_not_fit_is_told(harm: Callable[[dict[str, Any]], Any], told: str, tmp_path: Path) -> None:
    made = content()
    harm(made)
    with pytest.raises(UserError, match=told) as raised:
        read(saved(tmp_path, made))
    assert "\n" not in str(raised.value)


def setting(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """Change what the file says at ``path``, below the program's settings unless it begins elsewhere."""

    def change(made: dict[str, Any]) -> None:
        node = made if path[0] in made else made["hyper_parameters"]["config"]
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = to

    return change


def itself(made: dict[str, Any]) -> None:
    made["hyper_parameters"]["config"]["model"]["again"] = made["hyper_parameters"]


def twice(made: dict[str, Any]) -> None:
    made["state_dict"]["backbone._orig_mod.blocks.0.norm1.weight"] = torch.ones(8)


def whole(made: dict[str, Any]) -> None:
    made["ema"]["shadow_params"][3] = made["ema"]["shadow_params"][3].long()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        *((setting("model", "length", to=n), f"seq_len: Input should be greater.* {n}") for n in (0, -5, 4, True)),
        (setting("model", "dropout", to=1.5), "dropout: Input should be less than 1"),
        (setting("ema", "shadow_params", to=None), r"its ema has no list shadow_params \(--raw"),
        (setting("ema", "shadow_params", to={"a": 1}), r"its ema has no list shadow_params \(--raw"),
        (setting("ema", "shadow_params", to=[]), r"its ema has no list shadow_params \(--raw"),
        (setting("ema", to={"decay": 0.5}), r"its ema has no list shadow_params \(--raw"),
        (setting("ema", to=3), r"its ema has no list shadow_params \(--raw"),
        (twice, r"holds backbone.blocks.0.norm1.weight and backbone._orig_mod.blocks.0.norm1.weight; keep one"),
        (whole, r"sigma_map.mlp.2.weight holds torch.int64, not floating-point weights"),
        (itself, r"hyper_parameters contain themselves or lie too deep; .*--heads and --tokenizer"),
    ],
)
def test_odd_files_are_refused_in_a_line(harm: Any, told: str, tmp_path: Path, command: Command) -> None:
    made = content()
    harm(made)
    result = command("import", saved(tmp_path, made), "--out", tmp_path / "out")
    refused(result)
    assert re.search(told, result[2]), result[2]
    assert not (tmp_path / "out").exists()


def test_raw_weights_are_taken_whatever_the_averages_are(tmp_path: Path) -> None:
    made = content()
    made["ema"] = {"shadow_params": "none"}
    wanted = made["state_dict"]["backbone.vocab_embed.embedding"]
    assert torch.equal(read(saved(tmp_path, made), raw=True).denoiser.backbone.vocab_embed.embedding, wanted)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        *((setting("optim", "lr", to=lr), "optimizer.lr: Input should be") for lr in ("abc", -1)),
        (
            lambda made: (setting("optim", "beta1", to=0.5)(made), setting("optim", "beta2", to=2)(made)),
            "optimizer.betas.1",
        ),
        (setting("optim", "eps", to=0), "optimizer.eps: Input should be greater than 0"),
        (setting("optim", "weight_decay", to=-1), "optimizer.weight_decay: Input"),
        *((setting("loader", "global_batch_size", to=n), "batch_size: Input should be") for n in (0, "x")),
        (setting("trainer", "gradient_clip_val", to=-2), "optimizer.clip: Input should be greater than 0"),
        (setting("lr_scheduler", "num_warmup_steps", to=-3), "optimizer.warmup: Input should be"),
        *((setting("ema", "decay", to=decay), "ema: Input should be") for decay in ("x", 1.0)),
        *((setting("global_step", to=step), "steps: Input should be") for step in (-1, "x", 1.5)),
    ],
)
def test_weights_are_not_refused_for_a_setting_of_their_fit(
    harm: Any, told: str, tmp_path: Path, command: Command
) -> None:
    made = content()
    harm(made)
    file = saved(tmp_path, made)
    code, _, err = command("import", file, "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (0, 1)
    assert f"dlkit: warning: {file}: left out of the Recipe's fit: {told}" in err
    assert load_teacher(tmp_path / "out").architecture.seq_len == 16


@pytest.mark.parametrize("option", [("--step", 7), ("--tie", "ema")])
def test_options_that_say_nothing_of_it_are_refused(
    option: tuple[object, ...], tmp_path: Path, command: Command
) -> None:
    result = command("import", saved(tmp_path, content()), "--out", tmp_path / "out", *option)
    refused(result, f"checkpoints of 'flm' leave no choice to {option[0]}; leave it out")


def test_the_tokenizer_must_have_as_many_ids(tmp_path: Path) -> None:
    file = saved(tmp_path, content())
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UserError, match=r"has 11 ids, the embedding of .* 12; give the tokenizer .* by --tokenizer"):
        read(file, tokenizer=str(vocabulary(other, WORDS[:-1])))
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(UserError, match="does not name its tokenizer; give --tokenizer"):
        read(file)


def test_a_checkpoint_may_lack_averages_and_settings(tmp_path: Path) -> None:
    made = content()
    del made["ema"], made["hyper_parameters"], made["state_dict"]["backbone.rotary_emb.inv_freq"]
    file = saved(tmp_path, made)
    with pytest.raises(UserError, match="does not say how many attention heads there are; give --heads"):
        read(file)
    found = read_official(file, ReadOptions(heads=2))[1]
    assert [warning.split(";")[0] for warning in found.warnings] == [
        "the length of a sequence is not told",
        "there are no averaged weights",
    ]


class Trap:
    """Writes a file, runs a command or imports a module if anybody unpickles it as pickle does."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.made_by = (call, args)

    def __reduce__(self) -> Any:
        return self.made_by


def traps(folder: Path) -> dict[str, Any]:
    touched = str(folder / "touched")
    return {
        "os": Trap(os.system, f"touch {touched}"),
        "subprocess": Trap(subprocess.getoutput, f"touch {touched}"),
        "eval": Trap(eval, f"__import__('pathlib').Path({touched!r}).touch()"),
        "path": Trap(Path.touch, Path(touched)),
    }


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    made = content()
    made["hyper_parameters"]["config"]["model"]["trap"] = traps(tmp_path)["eval"]
    made |= {"callbacks": traps(tmp_path), "optimizer_states": [Trap(exec, "raise SystemExit(3)")]}
    file = saved(tmp_path, made)
    teacher = read(file)
    assert teacher.architecture.backbone == FlmSpec(**SIZES)
    found = load_inert(file)["callbacks"]
    assert not (tmp_path / "touched").exists()
    assert {name: type(value).__mro__[1] for name, value in found.items()} == dict.fromkeys(found, Placeholder)
    assert found["eval"].origin.endswith(".eval")
    assert plain(found) == dict.fromkeys(found)
    with pytest.raises(SystemExit):  # the traps are set: pickle itself runs into the last
        torch.load(file, weights_only=False)
    assert (tmp_path / "touched").exists()


def test_no_module_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that names a module does not even import it."""
    (tmp_path / "harmful.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nclass Thing: pass\n")
    file = saved(tmp_path, {"a": torch.ones(2), "thing": 0})
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (table,) = (name for name in entries if name.endswith("data.pkl"))
    entries[table] = b"\x80\x02charmful\nThing\n)\x81}b."
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_inert(file).origin == "harmful.Thing"
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    "size", [((2, 10**9), (0, 0), 0), ((5,), (1,), 0), ((2,), (1,), 3), ((2,), (4,), 0), ((-1,), (1,), 0)]
)
def test_a_tensor_is_no_larger_than_what_is_stored(size: tuple[Any, Any, int], tmp_path: Path) -> None:
    shape, stride, offset = size
    file = saved(tmp_path, {"a": torch.arange(4.0)})
    stored = load_inert(file)["a"]
    assert stored.read().tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises((UserError, pickle.UnpicklingError)):
        _unpickle._tensor(stored, offset, shape, stride).read()


def test_damaged_files_are_told(tmp_path: Path) -> None:
    file = saved(tmp_path, content())
    whole = file.read_bytes()
    for cut in (whole[:-50], whole[: len(whole) // 2], b"no archive", b""):
        file.write_bytes(cut)
        with pytest.raises(UserError, match=r"is damaged, cut short or no file that torch.save wrote"):
            read(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": {}}, 2) * 1000)
    with pytest.raises(UserError, match="damaged"):
        read(file)
    with pytest.raises(UserError, match="missing"):
        load_inert(tmp_path / "none.ckpt")


def test_a_file_cannot_change_what_it_has_made() -> None:
    stored = StoredTensor(Path("a"), "b", torch.float32, (1,), (1,), 0)
    with pytest.raises(pickle.UnpicklingError):
        stored.__setstate__({"file": "c"})


def test_several_checkpoints_in_a_folder(tmp_path: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        saved(tmp_path, content(), name)
    with pytest.raises(UserError, match=r"has 2 \.ckpt files; name the one to read"):
        read(tmp_path)
