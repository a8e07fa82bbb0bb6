"""Official run folders through the command line: what is read, how, what is refused and that nothing is executed."""

import io
import json
import os
import pickle
import shutil
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import dlkit
from command_line import Command, refused
from dlkit.errors import Notice, UserError
from dlkit.generator import OneStepGenerator, Teacher, load, load_teacher
from dlkit.teachers._base import ReadOptions, TeacherFamily
from dlkit.teachers.diffuseq import Diffuseq, official_state
from official_run import ARGUMENTS, SIZES, WORDS, bert_config, run_folder, weights


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_folder(tmp_path / "run")


def quietly(path: Path, **options: Any) -> Teacher:
    """``load_teacher`` without its notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return load_teacher(path, **options)


def state_of(model: Teacher) -> dict[str, Tensor]:
    return official_state(model.denoiser)


def expected(state: dict[str, Tensor], table: str = "lm_head.weight") -> dict[str, Tensor]:
    """What a teacher should hold: the file's tensors, with one copy of the tied table under both names."""
    return {**state, "word_embedding.weight": state[table], "lm_head.weight": state[table]}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name].detach())] == []


# --- import


def test_import_makes_a_model_folder_and_reports_every_tensor(command: Command, run: Path, tmp_path: Path) -> None:
    code, out, err = command("import", run, "--out", tmp_path / "teacher")
    assert code == 0
    assert err == (
        "dlkit: warning: word_embedding.weight (averaged) and lm_head.weight (raw) differ by up to 0.5; "
        "taken is the raw table, which is what the original's own loader ends up with (tie=lm_head)\n"
    )
    lines = [line.split() for line in out.splitlines()]
    status = {line[1]: line[0] for line in lines[: len(weights())]}
    assert status.keys() == weights().keys()
    assert {name for name, word in status.items() if word == "ignored"} == {"position_ids", "word_embedding.weight"}
    assert set(status.values()) == {"used", "ignored"}
    assert f"heads: 2, from {run / 'bert_config.json'}\n" in out
    assert f"tokenizer: {run / 'vocab.json'}, 13 ids\n" in out
    assert out.endswith(f"teacher: {tmp_path / 'teacher'}\n")
    files = {path.name for path in (tmp_path / "teacher").iterdir()}
    assert files >= {"config.json", "model.safetensors", "recipe.yaml", "tokenizer.json", "import.json"}
    teacher = load_teacher(tmp_path / "teacher")
    assert_same(state_of(teacher), expected(weights()))
    assert teacher.recipe.fit.steps == 100 and teacher.recipe.fit.optimizer.lr == 1e-4
    record = json.loads((tmp_path / "teacher" / "import.json").read_text())
    assert {key["name"]: key["status"] for key in record["keys"]} == status
    assert command("sample", "--model", tmp_path / "teacher", "--input", run / "vocab.json", "--steps", 2)[0] == 0


def test_the_tie(command: Command, run: Path, tmp_path: Path) -> None:
    code, _, err = command("import", run, "--out", tmp_path / "teacher", "--tie", "ema")
    assert code == 0 and "the averaged table" in err and "(tie=ema)" in err
    assert_same(state_of(load_teacher(tmp_path / "teacher")), expected(weights(), "word_embedding.weight"))
    refused(command("import", run, "--out", tmp_path / "no", "--tie", "raw"), "--tie raw: give lm_head or ema")


def test_equal_tables_need_no_warning(command: Command, tmp_path: Path) -> None:
    state = weights()
    state["lm_head.weight"] = nn.Parameter(state["word_embedding.weight"] + 5e-7)
    code, out, err = command("import", run_folder(tmp_path / "run", state), "--out", tmp_path / "teacher")
    assert (code, err) == (0, "")
    assert "differ by up to " in out


def test_load_teacher_reads_either_kind_of_folder(run: Path, tmp_path: Path) -> None:
    with pytest.warns(Notice, match=r"differ by up to 0\.5; taken is the raw table"):
        teacher = dlkit.load_teacher(run)
    assert_same(state_of(teacher), expected(weights()))
    with pytest.warns(Notice):
        assert isinstance(load(run), Teacher)
    teacher.save_pretrained(tmp_path / "teacher")
    again = load_teacher(tmp_path / "teacher")
    assert again.generate(["w1 w2"], seed=3, steps=4) == teacher.generate(["w1 w2"], seed=3, steps=4)
    assert_same(state_of(quietly(run, tie="ema")), expected(weights(), "word_embedding.weight"))
    with pytest.raises(UserError, match="is no official checkpoint; tie can only be said of one"):
        load_teacher(tmp_path / "teacher", tie="ema")


def test_which_checkpoint(command: Command, tmp_path: Path) -> None:
    states = {(100, 0.9999): weights(1), (20_000, 0.99): weights(2), (20_000, 0.9999): weights(3), (7, 0.5): weights(4)}
    for (step, rate), state in states.items():
        run = run_folder(tmp_path / "run", state, file=f"ema_{rate}_{step:06d}.pt")
    (run / "model020000.pt").write_bytes(b"not looked at")
    (run / "ema_0.9999_020000.pt.samples").mkdir()
    assert_same(state_of(quietly(run)), expected(states[20_000, 0.9999]))
    assert_same(state_of(quietly(run, step=100)), expected(states[100, 0.9999]))
    assert_same(state_of(quietly(run / "ema_0.99_020000.pt")), expected(states[20_000, 0.99]))
    teacher = quietly(run, step=7)
    assert (teacher.recipe.fit.steps, teacher.recipe.fit.ema) == (7, 0.5)
    assert "checkpoint: ema_0.9999_020000.pt (of 4; --step" in command("import", run, "--out", tmp_path / "t")[1]
    refused(command("import", run, "--out", tmp_path / "no", "--step", 8), "no checkpoint of step 8", "7, 100, 20000")
    one = command("import", run / "ema_0.99_020000.pt", "--out", tmp_path / "no", "--step", 7)
    refused(one, "ema_0.99_020000.pt is one checkpoint; leave --step out, or give its folder")


def test_unknown_tensors(command: Command, tmp_path: Path) -> None:
    state = weights()
    state["pooler.weight"] = nn.Parameter(torch.ones(2, 2))
    state["pooler.bias"] = nn.Parameter(torch.ones(2))
    run = run_folder(tmp_path / "run", state)
    refused(command("import", run, "--out", tmp_path / "t"), "unknown pooler.weight and 1 more; --allow-unused leaves")
    assert not (tmp_path / "t").exists()
    code, out, _ = command("import", run, "--out", tmp_path / "t", "--allow-unused")
    assert code == 0
    assert "unused   pooler.weight " in out
    assert_same(state_of(load_teacher(tmp_path / "t")), expected(weights()))


def test_positions_may_be_missing(command: Command, tmp_path: Path) -> None:
    state = weights()
    del state["position_ids"]
    code, out, _ = command("import", run_folder(tmp_path / "run", state), "--out", tmp_path / "t")
    assert code == 0 and "missing  position_ids " in out
    assert_same(state_of(load_teacher(tmp_path / "t")), expected(weights()))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    heads=st.integers(1, 3),
    columns=st.integers(1, 4),
    layers=st.integers(1, 3),
    ff=st.integers(1, 9),
    dim=st.integers(1, 12),
    time_dim=st.integers(2, 9),
    tie=st.sampled_from(["lm_head", "ema"]),
)
def test_out_and_back_is_lossless_at_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    heads: int,
    columns: int,
    layers: int,
    ff: int,
    dim: int,
    time_dim: int,
    tie: Any,
) -> None:
    sizes = {"layers": layers, "hidden": heads * columns, "ff": ff, "time_dim": time_dim}
    base = tmp_path_factory.mktemp("sizes")
    run = run_folder(base / "run", weights(dim=dim, heads=heads, **sizes), hidden_t_dim=time_dim, hidden_dim=dim)
    (run / "bert_config.json").unlink()
    options = ReadOptions(tie=tie, heads=heads)
    dlkit.import_teacher(run, base / "first", options)
    dlkit.import_teacher(dlkit.export_teacher(base / "first", base / "out"), base / "second")
    first, second = load_teacher(base / "first"), load_teacher(base / "second")
    assert_same(state_of(second), state_of(first))
    assert first.architecture == second.architecture
    assert first.architecture.backbone.heads == heads  # type: ignore[attr-defined]
    assert first.tokenizer.vocabulary() == second.tokenizer.vocabulary()


@pytest.mark.parametrize(("said", "rate"), [({"denoise_rate": 0.5}, 0.5), ({}, 0.2), ({"denoise": False}, 0.0)])
def test_a_checkpoint_of_the_second_version_has_a_mean(said: dict[str, Any], rate: float, tmp_path: Path) -> None:
    mean = torch.tensor([0.5, -1.0, 2.0, 0.0])
    run = run_folder(tmp_path / "run", changed(mean_embed=nn.Parameter(mean)), learned_mean_embed=True, **said)
    dlkit.import_teacher(run, tmp_path / "first")
    dlkit.import_teacher(dlkit.export_teacher(tmp_path / "first", tmp_path / "out"), tmp_path / "second")
    first, second = load_teacher(tmp_path / "first"), load_teacher(tmp_path / "second")
    assert torch.equal(first.denoiser.space.mean_embed, mean)
    assert first.architecture.process.spec()["absorb_rate"] == rate
    assert first.architecture == second.architecture
    assert_same(state_of(second), state_of(first))
    assert first.generate(["w1 w2"], steps=3) == second.generate(["w1 w2"], steps=3)


# --- what the original has no words for

SETTINGS: dict[str, Any] = {
    "decoder": {"name": "nearest", "metric": "cosine"},
    "sampler": {"name": "dpm_solver_pp_2m", "steps": 3},
    "overlong": "refuse",
    "family": {"name": "diffuseq", "reg_rate": 0.5},
}


def rewritten(folder: Path, **settings: Any) -> dict[str, Any]:
    """``config.json`` with other settings, as the model's own code writes it."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    teacher = load_teacher(folder)
    file.write_text(json.dumps(teacher.config()))
    return teacher.config()


@pytest.mark.parametrize("names", [[name] for name in SETTINGS] + [list(SETTINGS)], ids="-".join)
def test_settings_of_our_own_come_back(names: list[str], command: Command, run: Path, tmp_path: Path) -> None:
    dlkit.import_teacher(run, tmp_path / "first")
    before = json.loads((tmp_path / "first" / "config.json").read_text())
    config = rewritten(tmp_path / "first", **{name: SETTINGS[name] for name in names})
    assert {name for name in config if config[name] != before[name]} == set(names)
    code, out, err = command("export", "--model", tmp_path / "first", "--out", tmp_path / "out")
    assert (code, out, err) == (0, f"checkpoint: {tmp_path / 'out'}\n", "")
    dlkit.import_teacher(tmp_path / "out", tmp_path / "second")
    assert json.loads((tmp_path / "second" / "config.json").read_text()) == config
    said = json.loads((tmp_path / "out" / "training_args.json").read_text())
    assert said["dlkit"].keys() == set(names)


def test_the_original_hears_nothing_it_need_not(command: Command, run: Path, tmp_path: Path) -> None:
    dlkit.import_teacher(run, tmp_path / "first")
    assert command("export", "--model", tmp_path / "first", "--out", tmp_path / "out")[2] == ""
    assert "dlkit" not in json.loads((tmp_path / "out" / "training_args.json").read_text())


@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        ({"decoder": "nope"}, "dlkit: decoders: nothing is called 'nope'"),
        ({"sampler": 5}, "dlkit: samplers: expected a name or settings"),
        ({"overlong": "often"}, "dlkit.overlong: "),
        ({"decodr": "nearest"}, "unknown key 'dlkit.decodr'; did you mean 'decoder'?"),
    ],
)
def test_wrong_settings_of_our_own_are_told_with_their_file(
    own: dict[str, Any], complaint: str, command: Command, run: Path, tmp_path: Path
) -> None:
    file = run / "training_args.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dlkit": own}))
    code, out, err = command("import", run, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"{file}: {complaint}" in err


def test_what_a_format_does_not_keep_is_said_in_one_line(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a format without our own words: what import would say anyway is not mentioned."""
    dlkit.import_teacher(run, tmp_path / "first")
    rewritten(tmp_path / "first", sampler=SETTINGS["sampler"], overlong="refuse")
    monkeypatch.setattr("dlkit.teachers._diffuseq_write._beside", lambda parts: {})
    code, out, err = command("export", "--model", tmp_path / "first", "--out", tmp_path / "out")
    assert (code, out) == (0, f"checkpoint: {tmp_path / 'out'}\n")
    assert err.count("\n") == 1
    assert "not kept by this format: sampler {" in err
    assert 'overlong "refuse" (import gives "truncate")' in err
    assert "decoder" not in err
    assert "family" not in err


def test_a_format_that_cannot_be_read_back_is_written_all_the_same(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dlkit.import_teacher(run, tmp_path / "first")
    monkeypatch.setattr(Diffuseq, "read", TeacherFamily.read)
    with pytest.warns(Notice, match="what this format keeps is not known: the checkpoint cannot be read back") as told:
        out = dlkit.export_teacher(tmp_path / "first", tmp_path / "out")
    assert "\n" not in str(told[0].message)
    assert (out / "training_args.json").is_file()


def test_wrong_settings_of_our_own_are_refused(command: Command, run: Path, tmp_path: Path) -> None:
    run_folder(run, dlkit={"decoder": "linear_heat"})
    refused(command("import", run, "--out", tmp_path / "t"), "did you mean 'linear_head'")
    run_folder(run, dlkit={"decodre": "nearest"})
    refused(command("import", run, "--out", tmp_path / "t"), "training_args.json", "decodre")


# --- heads and tokenizers


def test_where_the_number_of_heads_is_from(command: Command, run: Path, tmp_path: Path) -> None:
    def heads(*args: object) -> str:
        out = command("import", run, "--out", tmp_path / "t", *args)[1]
        shutil.rmtree(tmp_path / "t")
        return next(line for line in out.splitlines() if line.startswith("heads: "))

    assert heads("--heads", 4) == "heads: 4, as given"
    assert heads() == f"heads: 2, from {run / 'bert_config.json'}"
    (run / "tiny-bert").mkdir()
    (run / "bert_config.json").rename(run / "tiny-bert" / "config.json")
    assert heads() == f"heads: 2, from {run / 'tiny-bert' / 'config.json'}"
    shutil.rmtree(run / "tiny-bert")
    refused(command("import", run, "--out", tmp_path / "t"), "heads is not in the weights", "give --heads")
    refused(command("import", run, "--out", tmp_path / "t", "--heads", 3), "3 heads do not divide its hidden width 8")
    refused(command("import", run, "--out", tmp_path / "t", "--heads", 0), "--heads 0: give at least 1")
    run_folder(run, weights(hidden=128))
    (run / "bert_config.json").unlink()
    assert heads() == (
        "heads: 2, assumed: 64 columns each, as in BERT ('tiny-bert' is not known; --heads says otherwise)"
    )


def test_known_names_tell_the_heads() -> None:
    from dlkit.teachers._diffuseq_bert import _by_name

    assert _by_name("bert-base-uncased", 768) == (12, "known of 'bert-base-uncased'")
    assert _by_name("google-bert/bert-large-cased", 1024)[0] == 16
    assert _by_name("bert-base-uncased", 128)[1].startswith("assumed")


def test_bert_vocabularies(command: Command, run: Path, tmp_path: Path) -> None:
    """``vocab: bert`` is the tokenizer beside the weights; away from it the hub is asked, and --tokenizer helps."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{k}" for k in range(8))]
    run_folder(run, vocab="bert", config_name="dlkit-tests/no-such-bert")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    refused(command("import", run, "--out", tmp_path / "t"), "tokenizer cannot be read; give --tokenizer")
    assert command("import", run, "--out", tmp_path / "t", "--tokenizer", tmp_path / "vocab.txt")[0] == 0
    assert load_teacher(tmp_path / "t").tokenizer.cls_id == 2
    shutil.copy(tmp_path / "vocab.txt", run)
    assert quietly(run).tokenizer.cls_id == 2
    exported = dlkit.export_teacher(tmp_path / "t", tmp_path / "out")
    assert json.loads((exported / "training_args.json").read_text())["vocab"] == "bert"
    assert load_teacher(exported).tokenizer.vocabulary() == quietly(run).tokenizer.vocabulary()


def test_the_vocabulary_that_the_arguments_point_to(run: Path) -> None:
    (run / "vocab.json").unlink()
    (run / "data").mkdir()
    (run / "data" / "vocab.txt").write_text("\n".join(WORDS))
    assert quietly(run).tokenizer.vocabulary() == {word: i for i, word in enumerate(WORDS)}


def test_diffusion_lm(command: Command, tmp_path: Path) -> None:
    """Other names in its arguments, marks without brackets in its vocabulary, the same names of tensors."""
    names = {"hidden_dim": None, "hidden_t_dim": None, "seq_len": None, "vocab": None}
    run = run_folder(tmp_path / "run", in_channel=4, num_channels=6, image_size=4, **names)  # type: ignore[arg-type]
    marks = ["START", "END", "UNK", "PAD", *WORDS[4:]]
    (run / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(marks)}))
    assert command("import", run, "--out", tmp_path / "t")[0] == 0
    teacher = load_teacher(tmp_path / "t")
    assert_same(state_of(teacher), expected(weights()))
    assert teacher.architecture.seq_len == 16
    assert teacher.tokenizer.encode("w1 what") == [0, 5, 2, 1]
    said = json.loads((run / "training_args.json").read_text())
    (run / "training_args.json").write_text(json.dumps({**said, "in_channel": 8}))
    refused(command("import", run, "--out", tmp_path / "no"), "says hidden_dim=8", "say 4")


# --- what is refused


class Touch:
    """Unpickled by a trusting reader, this makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.file}",))


def plain_pickle(content: Any) -> bytes:
    return pickle.dumps(content)


def zipped(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [plain_pickle, zipped, legacy])
@pytest.mark.parametrize("hidden", ["whole", "value", "beside weights"])
def test_nothing_in_a_malicious_file_is_executed(
    pack: Callable[[Any], bytes], hidden: str, command: Command, run: Path, tmp_path: Path
) -> None:
    bait, bomb = tmp_path / "bait", Touch(tmp_path / "bait")
    content = {"whole": bomb, "value": {"weight": bomb}, "beside weights": {**weights(), "x": bomb}}[hidden]
    packed = pack(content)
    (run / "ema_0.9999_000100.pt").write_bytes(packed)
    refused(command("import", run, "--out", tmp_path / "t"), "ema_0.9999_000100.pt")
    refused(command("import", run, "--out", tmp_path / "t", "--allow-unused"), "ema_0.9999_000100.pt")
    refused(command("sample", "--model", run, "--input", run / "vocab.json"), "ema_0.9999_000100.pt")
    assert not bait.exists()
    assert not (tmp_path / "t").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(io.BytesIO(packed), weights_only=False) if pack is not plain_pickle else pickle.loads(packed)
    assert bait.exists()  # the bait was a real one


def test_a_malicious_file_names_what_it_asked_for(command: Command, run: Path, tmp_path: Path) -> None:
    (run / "ema_0.9999_000100.pt").write_bytes(zipped({"x": Touch(tmp_path / "bait")}))
    refused(command("import", run, "--out", tmp_path / "t"), "asks for posix.system, which is no tensor; it was not")


def tar(content: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(content if name == "pickle" else 0)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def changed(**tensors: Any) -> OrderedDict[str, Any]:
    """A whole state with some tensors put in, or left out where None is given (``_`` stands for a dot)."""
    state: OrderedDict[str, Any] = weights()
    for name, tensor in tensors.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    return state


WHOLE = zipped(weights())
BIAS = "LayerNorm.bias"
BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is damaged, cut short or no file of weights"),
    "text": (lambda: b"hello, world\n" * 99, "is damaged, cut short or no file of weights"),
    "truncated": (lambda: WHOLE[: len(WHOLE) // 2], "is damaged, cut short or no file of weights"),
    "last bytes lost": (lambda: WHOLE[:-30], "is damaged, cut short or no file of weights"),
    "legacy truncated": (lambda: legacy(weights())[:-1000], "is damaged, cut short or no file of weights"),
    "tar": (lambda: tar({}), "is damaged, cut short or no file of weights"),
    "a zip of something else": (lambda: zip_of({"hello.txt": b"hello"}), "is damaged, cut short or no file of weights"),
    "a tensor": (lambda: zipped(torch.ones(3)), "holds a Tensor, not tensors by name"),
    "a list": (lambda: zipped([torch.ones(3)]), "holds a list, not tensors by name"),
    "nothing": (lambda: zipped({}), "holds a dict, not tensors by name"),
    "a number": (lambda: zipped({**weights(), "step": 3}), "'step' is a int, not a tensor"),
    "numbers for names": (lambda: zipped({3: torch.ones(3)}), "holds tensors by int, not by name"),
    "nested deeper": (lambda: zipped({"model": {"model": weights()}}), "is a OrderedDict, not a tensor"),
    "other tensors": (lambda: zipped({"weight": torch.ones(3)}), "lacks word_embedding.weight"),
    "a tensor missing": (lambda: zipped(changed(**{BIAS: None})), f"lacks {BIAS}; it is cut short"),
    "no lm_head": (lambda: zipped(changed(**{"lm_head.weight": None})), "lacks lm_head.weight"),
    "NaN": (lambda: zipped(changed(**{BIAS: torch.full((8,), float("nan"))})), f"{BIAS} holds values that are not fin"),
    "infinite": (
        lambda: zipped(changed(**{"word_embedding.weight": torch.full((13, 4), float("inf"))})),
        "word_embedding.weight holds values that are not finite",
    ),
    "integers": (lambda: zipped(changed(**{BIAS: torch.ones(8).long()})), f"{BIAS} holds torch.int64, not floating"),
    "sparse": (lambda: zipped(changed(**{BIAS: torch.ones(8).to_sparse()})), f"{BIAS} is not an ordinary dense tensor"),
    "on no device": (lambda: zipped(changed(**{BIAS: torch.ones(8, device="meta")})), f"{BIAS} is not an ordinary"),
    "larger than stored": (
        lambda: zipped(changed(**{"word_embedding.weight": torch.ones(1, 1).expand(10**9, 10**6)})),
        "word_embedding.weight says it is larger than what is stored",
    ),
    "one dimension": (
        lambda: zipped(changed(**{"word_embedding.weight": torch.ones(13)})),
        "word_embedding.weight has shape (13,), not two dimensions",
    ),
    "a tensor of another size": (
        lambda: zipped(changed(**{BIAS: torch.ones(9)})),
        f"{BIAS} has shape (9,), but its other tensors imply (8,); sizes are mixed",
    ),
    "tables of two sizes": (
        lambda: zipped(changed(**{"lm_head.weight": torch.ones(12, 4)})),
        "lm_head.weight has shape (12, 4), but its other tensors imply (13, 4)",
    ),
    "another hidden width": (lambda: zipped(weights(hidden=16)), "says hidden_size=8, the weights say 16"),
    "another width": (lambda: zipped(weights(dim=5)), "says hidden_dim=4", "say 5"),
    "another clock": (lambda: zipped(weights(time_dim=8)), "says hidden_t_dim=6", "say 8"),
    "another vocabulary": (lambda: zipped(weights(vocab_size=14)), "says vocab_size=13", "say 14"),
    "fewer positions": (lambda: zipped(weights(max_positions=12)), "says seq_len=16, but"),
    "more layers": (lambda: zipped(weights(layers=3)), "says num_hidden_layers=2, the weights say 3"),
    "a mean of another width": (
        lambda: zipped(changed(mean_embed=nn.Parameter(torch.ones(5)))),
        "mean_embed has shape (5,), but its other tensors imply (4,)",
    ),
}  # type: ignore[assignment]


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_of_weights(bad: tuple[Any, ...], command: Command, run: Path, tmp_path: Path) -> None:
    make, *words = bad
    whole = (run / "ema_0.9999_000100.pt").read_bytes()
    (run / "ema_0.9999_000100.pt").write_bytes(make())
    refused(command("import", run, "--out", tmp_path / "t"), *words)
    assert not (tmp_path / "t").exists()
    (run / "ema_0.9999_000100.pt").write_bytes(whole)
    assert command("import", run, "--out", tmp_path / "t")[0] == 0


def edit(file: str, **changes: Any) -> Callable[[Path], Any]:
    """Change some keys of a JSON file in the run folder; None takes one out."""

    def change(run: Path) -> None:
        content = {**json.loads((run / file).read_text()), **changes}
        (run / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


ARGS, BERT = "training_args.json", "bert_config.json"
BAD_FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no arguments": (lambda run: (run / ARGS).unlink(), "training_args.json is missing; is"),
    "damaged arguments": (lambda run: (run / ARGS).write_text('{"lr": 1'), "training_args.json is damaged"),
    "arguments that are a list": (lambda run: (run / ARGS).write_text("[]"), "training_args.json: "),
    "no seq_len": (edit(ARGS, seq_len=None), "training_args.json: seq_len: Field required"),
    "a word for a number": (edit(ARGS, diffusion_steps="many"), "training_args.json: diffusion_steps"),
    "no checkpoint": (lambda run: (run / "ema_0.9999_000100.pt").unlink(), "has no ema_*.pt"),
    "raw weights alone": (
        lambda run: (run / "ema_0.9999_000100.pt").rename(run / "model000100.pt"),
        "has no ema_*.pt; only averaged weights are taken from a folder, or name a file",
    ),
    "another vocabulary size": (edit(ARGS, vocab_size=30522), "says vocab_size=30522, the weights"),
    "a larger tokenizer": (edit("vocab.json", more=13), "has 14 ids, the embedding of"),
    "a smaller tokenizer": (edit("vocab.json", w8=None), "has 12 ids, the embedding of"),
    "no vocabulary": (lambda run: (run / "vocab.json").unlink(), "the vocabulary 'data/vocab.txt'", "--tokenizer"),
    "a gap in the vocabulary": (edit("vocab.json", w8=99), "its ids are not 0 to 12, each once"),
    "a vocabulary without marks": (
        lambda run: (run / "vocab.json").write_text(json.dumps({f"w{k}": k for k in range(13)})),
        "does not begin with [START] [END] [UNK] [PAD]",
    ),
    "an unknown schedule": (
        edit(ARGS, noise_schedule="wavy"),
        "training_args.json: schedules: nothing is called 'wavy'; known: ",
    ),
    "too many steps": (
        edit(ARGS, diffusion_steps=10**6),
        "training_args.json: schedules 'sqrt': steps: Input should be less",
    ),
    "predicts noise": (edit(ARGS, predict_xstart=False), "predict_xstart=False is not supported"),
    "another clock": (edit(ARGS, rescale_timesteps=False), "rescale_timesteps=False is not supported"),
    "learned variance": (edit(ARGS, learn_sigma=True), "learn_sigma=True is not supported"),
    "trained on some steps": (edit(ARGS, timestep_respacing="10"), "timestep_respacing='10' is not supported"),
    "scaled embeddings": (edit(ARGS, emb_scale_factor=2.0), "emb_scale_factor=2.0 is not supported"),
    "a long sequence": (edit(ARGS, seq_len=21), "says seq_len=21, but ema_0.9999_000100.pt has 20 positions"),
    "another activation": (edit(BERT, hidden_act="relu"), "hidden_act='relu' is not supported"),
    "another epsilon": (edit(BERT, layer_norm_eps=1e-5), "layer_norm_eps=1e-05 is not supported"),
    "another transformer": (edit(BERT, intermediate_size=13), "says intermediate_size=13, the weights say 12"),
    "no heads": (edit(BERT, num_attention_heads=None), "num_attention_heads: Field required"),
}  # type: ignore[assignment]


@pytest.mark.parametrize("bad", BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_bad_run_folders(bad: tuple[Any, ...], command: Command, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "good")
    harm, *words = bad
    harm(run)
    refused(command("import", run, "--out", tmp_path / "t"), *words)
    assert not (tmp_path / "t").exists()
    assert command("import", tmp_path / "good", "--out", tmp_path / "t")[0] == 0


def test_what_is_no_run_folder(command: Command, run: Path, tmp_path: Path) -> None:
    refused(
        command("import", tmp_path / "nowhere", "--out", tmp_path / "t"), "nowhere does not exist; give a run folder"
    )
    (tmp_path / "empty").mkdir()
    refused(
        command("import", tmp_path / "empty", "--out", tmp_path / "t"), "empty is no official checkpoint; give a run"
    )
    quietly(run).save_pretrained(tmp_path / "teacher")
    refused(command("import", tmp_path / "teacher", "--out", tmp_path / "t"), "teacher is no official checkpoint")


GOOD_FILES: dict[str, Callable[[], bytes]] = {
    "legacy": lambda: legacy(weights()),
    "below model": lambda: zipped({"model": weights()}),
    "below state_dict": lambda: zipped({"state_dict": weights()}),
    "a zip with more in it": lambda: WHOLE,
    "plain tensors": lambda: zipped({name: tensor.detach() for name, tensor in weights().items()}),
    "double precision": lambda: zipped({name: cast(tensor, torch.float64) for name, tensor in weights().items()}),
}


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype) if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("form", GOOD_FILES)
def test_forms_of_whole_files(form: str, run: Path, tmp_path: Path) -> None:
    file = run / "ema_0.9999_000100.pt"
    file.write_bytes(GOOD_FILES[form]())
    if form == "a zip with more in it":
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("archive/extra.pkl", pickle.dumps(Touch(tmp_path / "bait")))
    assert_same(state_of(quietly(run)), expected(weights()))
    assert not (tmp_path / "bait").exists()


def test_a_compiled_module_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    """A zip with ``constants.pkl`` is how TorchScript stores programs."""
    with zipfile.ZipFile(run / "ema_0.9999_000100.pt", "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(Touch(tmp_path / "bait")))
        archive.writestr("constants.pkl", pickle.dumps(Touch(tmp_path / "bait")))
    refused(command("import", run, "--out", tmp_path / "t"), "is damaged, cut short or no file of weights")
    assert not (tmp_path / "bait").exists()


def test_what_lies_beside_nested_weights_is_accounted_for(command: Command, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", {"model": weights(), "amp": {"scale": 2.0}, "step": 3})
    refused(command("import", run, "--out", tmp_path / "t"), "unknown amp and 1 more")
    code, out, _ = command("import", run, "--out", tmp_path / "t", "--allow-unused")
    assert code == 0 and "unused   amp " in out and "unused   step " in out


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {name: cast(tensor, dtype) for name, tensor in weights().items()}
    teacher = quietly(run_folder(tmp_path / "run", state))
    assert all(p.dtype == torch.float32 for p in teacher.denoiser.parameters())
    assert_same(state_of(teacher), expected({name: cast(t, torch.float32) for name, t in state.items() if t.ndim}))


def test_tensors_of_a_gpu_are_read_without_one(run: Path) -> None:
    """The device is a word in the file: ``cuda:0`` in the place of ``cpu``."""
    file = run / "ema_0.9999_000100.pt"
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in files if name.endswith("data.pkl"))
    cpu, cuda = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    assert cpu in files[pickled]
    files[pickled] = files[pickled].replace(cpu, cuda)
    file.write_bytes(zip_of(files))
    assert_same(state_of(quietly(run)), expected(weights()))


def test_output_folders_are_not_overwritten(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    refused(command("import", run, "--out", tmp_path / "full"), "full holds other files; give a new or empty folder")
    refused(command("import", run, "--out", run), "holds other files")
    refused(command("import", run, "--out", run / "vocab.json"), "is a file; give a folder")
    (tmp_path / "t").mkdir()
    assert command("import", run, "--out", tmp_path / "t")[0] == 0
    for out in ("full", "t"):
        refused(command("export", "--model", tmp_path / "t", "--out", tmp_path / out), "holds other files")
    assert (tmp_path / "full" / "mine").read_text() == "mine"


# --- export


def test_export_writes_what_the_original_writes(command: Command, run: Path, tmp_path: Path) -> None:
    assert command("import", run, "--out", tmp_path / "t")[0] == 0
    out = tmp_path / "out"
    result = command("export", "--model", tmp_path / "t", "--format", "diffuseq", "--out", out)
    assert result == (0, f"checkpoint: {out}\n", "")
    assert {path.name for path in out.iterdir()} == {
        *("ema_0.9999_000100.pt", "training_args.json", "vocab.json", "vocab.txt", "config.json")
    }
    state = torch.load(out / "ema_0.9999_000100.pt", weights_only=True)
    assert type(state) is OrderedDict
    assert list(state) == list(weights())
    assert_same(state, expected(weights()))
    said = json.loads((out / "training_args.json").read_text())
    changed = {"vocab": "vocab.txt", "checkpoint_path": ".", "config_name": "."}
    assert (out / "vocab.txt").read_text().splitlines() == WORDS[4:]
    assert {**ARGUMENTS, **changed}.items() <= said.items()
    assert (out / "vocab.json").read_bytes() == (run / "vocab.json").read_bytes()
    told = json.loads((out / "config.json").read_text())
    assert bert_config().items() <= told.items()
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained(out).num_attention_heads == SIZES["heads"]


def test_what_cannot_be_exported(command: Command, run: Path, tmp_path: Path) -> None:
    teacher = quietly(run)
    architecture = teacher.architecture.replace(sampler="one_step")
    student = OneStepGenerator(teacher.denoiser, teacher.tokenizer, architecture, teacher.recipe)
    student.save_pretrained(tmp_path / "student")
    out = ["--out", tmp_path / "out"]
    refused(command("export", "--model", tmp_path / "student", *out), "holds a student; only teachers have an official")
    parts = replace(teacher.parts(), prediction="eps")
    with pytest.raises(UserError, match="no place for the prediction 'eps'"):
        Diffuseq().write(tmp_path, parts)
    refused(command("export", "--model", tmp_path / "nowhere", *out), "nowhere does not exist")
    refused(command("export", "--model", run, "--format", "diffusec", *out), "did you mean 'diffuseq'")
    assert not (tmp_path / "out").exists()
