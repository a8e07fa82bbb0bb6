"""The command line: what it prints, what it refuses and how."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import command_line
import tiny
from command_line import caller
from dlkit import __version__
from dlkit.data.pairs import read_split
from dlkit.generator import load_student, load_teacher
from dlkit.registry import KINDS
from dlkit.training import checkpoint

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    call = caller(monkeypatch, capsys)
    return lambda *args: Result(*call(*args))


def refused(result: Result, *words: str) -> None:
    """One line on standard error that begins with the program's name, and exit code 2."""
    command_line.refused((result.code, result.out, result.err), *words)
    assert "Traceback" not in result.err


def fine(result: Result) -> Result:
    assert result.code == 0, result
    return result


@dataclass(frozen=True)
class World:
    """What the commands below work on."""

    data: Path
    teacher: Path
    recipe: Path
    sources: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    base = tmp_path_factory.mktemp("cli")
    data = tiny.corpus(base / "data")
    tiny.recipe().to_yaml(base / "recipe.yaml")
    (base / "sources.txt").write_text("where are books sold in paris ?\n\nis it wet in rome in may ?\n")
    return World(data, tiny.run_fit(data, base / "fit").parent, base / "recipe.yaml", base / "sources.txt")


@pytest.fixture
def train(run: Run, world: World, tmp_path: Path) -> Run:
    """``dlkit train`` with the tiny Recipe; later options win."""
    start = ["train", "--recipe", world.recipe, "--data", world.data, "--out", tmp_path / "run"]
    return lambda *args: run(*start, *args)


@pytest.fixture
def distill(run: Run, world: World, tmp_path: Path) -> Run:
    """``dlkit distill`` of the tiny teacher."""
    inputs = ["--recipe", world.recipe, "--data", world.data, "--teacher", world.teacher]
    return lambda *args: run("distill", *inputs, "--out", tmp_path / "run", *args)


@pytest.fixture
def sample(run: Run, world: World) -> Run:
    """``dlkit sample`` from the tiny teacher."""
    return lambda *args: run("sample", "--model", world.teacher, "--input", world.sources, "--steps", 2, *args)


# --- a process of its own


def process(*args: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "dlkit", *args]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.mark.parametrize("args", [["version"], ["train", "--help"], ["nonsense"], []])
def test_the_module_is_the_console_script(args: list[str]) -> None:
    """``python -m dlkit`` does what ``dlkit`` does, up to what it is called in the usage."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["dlkit"].partition(":")
    code = f"import sys; sys.argv[0] = 'dlkit'; from {module} import {function}; {function}()"
    command = [sys.executable, "-c", code, *args]
    wanted = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    done = process(*args)
    assert done.returncode == wanted.returncode
    for found, text in ((done.stdout, wanted.stdout), (done.stderr, wanted.stderr)):
        assert found.replace("python -m dlkit", "dlkit") == text


@pytest.mark.parametrize("args", [["--help"], ["list"], ["version"], ["train", "--help"]])
def test_torch_is_not_imported_for_what_needs_none_of_it(args: list[str]) -> None:
    done = process(*args, python=("-X", "importtime"))
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "transformers", "numpy"}


def test_help_and_list_are_instant() -> None:
    """Less than 0.7 seconds of work each; the best of three, because other work may disturb one."""

    def seconds(*args: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process(*args)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds("--help") for _ in range(3)) < 0.7
    assert min(seconds("list") for _ in range(3)) < 0.7


def test_a_mistake_is_one_line_and_exit_code_2_from_outside_too(world: World) -> None:
    done = process("sample", "--model", "nowhere", "--input", str(world.sources))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dlkit: nowhere does not exist; give the folder of a model\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_standard_output_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "dlkit", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    assert done.returncode != 0


# --- list, version and usage


def test_list(run: Run) -> None:
    everything = fine(run("list")).out
    for kind in (*KINDS, "recipes"):
        assert f"{kind}:\n" in everything
    assert re.search(
        r"^objectives:\n  adversarial +dlkit\n  consistency +dlkit\n  diff_instruct +dlkit\n  dmd +dlkit\n",
        everything,
        re.MULTILINE,
    )
    assert fine(run("list", "decoders")).out.startswith("decoders:\n")
    assert "dlm_one_qqp" in fine(run("list", "recipes")).out
    verbose = fine(run("list", "objectives", "-v")).out
    assert "2404.04057" in verbose
    assert re.search(r"file: .*sid\.py:\d+", verbose)
    refused(run("list", "objctives"), "there is no kind 'objctives'; known: schedules, ")


def test_version(run: Run) -> None:
    assert fine(run("version")).out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sample", "--modle", "x"], "No such option"),
        (["sample", "--model", "x", "--steps", "few"], "Invalid value for '--steps'"),
        (["train", "--data", "x"], "Missing option"),
        (["trian"], "No such command"),
    ],
)
def test_a_usage_error_is_one_line(args: list[str], words: str, run: Run) -> None:
    refused(run(*args), words)


def test_a_path_with_a_line_break_is_told_in_one_line(run: Run) -> None:
    refused(run("eval", "--model", "no\nwhere", "--data", "x"), "no where does not exist")


def test_no_command_at_all_shows_the_help(run: Run) -> None:
    result = run()
    assert result.code == 2
    assert "Commands" in result.out + result.err


# --- train


def test_train_fits_a_teacher(train: Run, tmp_path: Path) -> None:
    result = fine(train("--set", "fit.steps=2", "--seed", 3))
    assert result.out == f"teacher: {tmp_path / 'run' / 'teacher'}\n"
    teacher = load_teacher(tmp_path / "run")
    assert teacher.recipe.fit.steps == 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--recipe", "dmeo"], "recipes: nothing is called 'dmeo'; did you mean 'demo'?"),
        (["--recipe", "nothing.yaml"], "cannot read the recipe nothing.yaml"),
        (["--set", "objective=sdi"], "objectives: nothing is called 'sdi'; did you mean 'sid'"),
        (["--set", "fit.stepz=3"], "--set fit.stepz: fit has no 'stepz'; did you mean 'steps'?"),
        (["--set", "fit.steps=0"], "fit.steps: Input should be greater than or equal to 1 (got 0)"),
        (["--set", "fit.steps"], "--set fit.steps: expected PATH=VALUE"),
        (["--set", "run.device=gpu"], "there is no device 'gpu' here; use run.device=auto or cpu"),
        (["--set", "run.device=cuda:77"], "there is no device 'cuda:77' here"),
        (["--set", "model.tokenizer=train:words:9"], "tokenizer 'train:words:9' is not understood"),
        (["--set", "model.seq_len=48"], "seq_len=48 is more than backbone.max_positions=24"),
        (["--set", "evaluation.metric=self_bleu"], "metric 'self_bleu' needs two or more samples"),
        (["--data", "nowhere"], "the data folder nowhere does not exist"),
        (["--resume", "--data", "nowhere"], "the data folder nowhere does not exist"),
    ],
)
def test_train_refuses(args: list[str], words: str, train: Run, tmp_path: Path) -> None:
    refused(train(*args), words)
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_in_a_recipe_file(train: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("objctive: sid\n")
    refused(train("--recipe", file), f"{file}: unknown key 'objctive'; did you mean 'objective'?")
    file.write_text("objective: [\n")
    refused(train("--recipe", file), f"{file} is not YAML")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"src": "a b"', "train.jsonl:2: not valid JSON"),
        ('{"src": "a b"}', "train.jsonl:2: the key 'trg' is missing"),
        ('{"trg": "a b"}', "train.jsonl:2: the key 'src' is missing"),
        ('{"src": "", "trg": "b"}', "train.jsonl:2: 'src' is blank"),
        ('{"src": 3, "trg": "b"}', "train.jsonl:2: 'src' must be text, not int"),
        ('["a", "b"]', "train.jsonl:2: a list instead of an object"),
    ],
)
def test_a_wrong_line_of_data_is_named_and_once_mended_the_same_command_works(
    line: str, words: str, train: Run, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    good = '{"src": "a b", "trg": "c"}\n'
    (data / "train.jsonl").write_text(good + line + "\n" + good)
    refused(train("--data", data), words)
    (data / "train.jsonl").write_text(good * 3)
    fine(train("--data", data))


def test_data_that_are_not_there(train: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    refused(train("--data", data), f"{data}: no train data; this needs train.jsonl or train.jsonl.gz")
    (data / "train.jsonl").write_text("")
    refused(train("--data", data), "train.jsonl: the file is empty")
    (data / "train.jsonl.gz").write_bytes(b"\x1f\x8b\x08half")
    refused(train("--data", data), "holds both")
    (data / "train.jsonl").unlink()
    refused(train("--data", data), "train.jsonl.gz: not a whole gzip file")


def test_long_texts_are_refused_or_cut(train: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text(json.dumps({"src": "a " * 30, "trg": "b"}) + "\n")
    refused(train("--data", data), "train: pair 1: 32 source and 3 target ids, but only 23 fit", "overlong=truncate")
    assert "1 of 1 pairs were cut to 24 tokens" in fine(train("--data", data, "--set", "model.overlong=truncate")).err


def test_the_output_folder(train: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fine(train())
    before = tiny.weights(out / "teacher")
    refused(train(), "already holds a run; give an empty folder, or --resume to go on with it")
    refused(train("--resume", "--set", "fit.steps=9"), "recipe.fit.steps was 8 and is now 9")
    refused(train("--resume", "--seed", 1), "seed was 0 and is now 1")
    fine(train("--resume"))
    assert tiny.weights(out / "teacher") == before
    refused(train("--out", tmp_path), "holds other files and no run; give an empty folder")
    refused(train("--out", out / "run.json"), "is a file; give a folder for --out")
    refused(train("--out", out / "run.json" / "below"), "cannot write")


def test_a_damaged_checkpoint(train: Run, tmp_path: Path) -> None:
    fine(train())
    (file,) = (tmp_path / "run" / "checkpoints").rglob("state.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    refused(train("--resume"), f"the checkpoint {file.parent} is damaged", "delete it, and --resume starts")
    shutil.rmtree(file.parent)
    fine(train("--resume"))


def test_a_disk_that_runs_full(train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second checkpoint: one line, the first is still there, and with room again the run goes on from it."""
    save, calls = checkpoint.save_file, []

    def full(tensors: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    result = train()
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("dlkit: cannot write ")
    assert "No space left on device; free some space or choose another folder" in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
    checkpoint.load(tmp_path / "run" / "checkpoints" / "step-00000004")
    assert "going on from step 4" in fine(train("--resume")).err


def test_an_interrupted_run_says_how_to_go_on(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlkit.training.fit import Fitter

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "step", interrupt)
        result = train()
    assert result.code == 130
    assert result.err == "dlkit: stopped; --resume goes on from the last checkpoint\n"
    fine(train("--resume"))


# --- distill


def test_distill_makes_a_student(distill: Run, tmp_path: Path) -> None:
    result = fine(distill("--set", "adv=true", "--set", "stages=[{steps: 2}, {steps: 2}]"))
    assert re.fullmatch(rf"student: {tmp_path / 'run' / 'student'} \(stage [12], step 2, 0\.\d{{4}}\)\n", result.out)
    assert "stage 2 of 2: 2 generator updates" in result.err
    assert load_student(tmp_path / "run").recipe.adv is not None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--teacher", "nowhere"], "nowhere does not exist; give the folder of a model"),
        (["--set", "model.seq_len=12"], "distillation takes model and fit from the teacher; leave it out"),
        (["--set", "fit.steps=12"], "distillation takes model and fit from the teacher; leave it out"),
        (["--set", "objective=adversarial"], "objective 'adversarial' needs a discriminator; set adv=true"),
        (["--set", "stages.1.steps=3"], "--set stages.1.steps: stages has items 0 to 0, not '1'"),
        (["--set", "objective=sdi"], "did you mean 'sid'"),
        (["--set", "run.device=gpu"], "there is no device 'gpu'"),
    ],
)
def test_distill_refuses(args: list[str], words: str, distill: Run, tmp_path: Path) -> None:
    refused(distill(*args), words)
    assert not (tmp_path / "run").exists()


def test_distill_needs_both_splits(distill: Run, world: World, tmp_path: Path) -> None:
    data = shutil.copytree(world.data, tmp_path / "data")
    (data / "valid.jsonl.gz").rename(tmp_path / "valid.jsonl.gz")
    refused(distill("--data", data), f"{data} has no file of the split valid; the best student is chosen on it")
    (data / "train.jsonl.gz").unlink()
    (tmp_path / "valid.jsonl.gz").rename(data / "valid.jsonl.gz")
    refused(distill("--data", data), f"{data}: no train data")


def test_distill_names_what_another_run_differs_in(distill: Run, world: World, tmp_path: Path) -> None:
    fine(distill())
    refused(distill("--resume", "--set", "objective.mu=0.5"), "recipe.objective.mu was 1.2 and is now 0.5")
    refused(distill(), "already holds a run")
    other = tiny.run_fit(world.data, tmp_path / "other", seed=1)
    refused(distill("--resume", "--teacher", other), "holds another run: teacher was '")
    fine(distill("--resume"))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("model.safetensors", lambda b: b[: len(b) // 2], "model.safetensors is damaged or cut short"),
        ("model.safetensors", lambda b: b"", "model.safetensors is damaged or cut short"),
        ("model.safetensors", None, "model.safetensors is missing; the model folder is incomplete"),
        ("config.json", lambda b: b[:40], "config.json is damaged: it is not JSON"),
        ("config.json", None, "is not a model folder: it has no config.json"),
        ("recipe.yaml", None, "cannot read the recipe"),
        ("recipe.yaml", lambda b: b"zzz: 3\n", "recipe.yaml: unknown key 'zzz'"),
        ("tokenizer.json", None, "no tokenizer there"),
        ("tokenizer.json", lambda b: b[:40], "tokenizer.json"),
    ],
)
def test_a_damaged_model_is_told(
    name: str,
    damage: Callable[[bytes], bytes] | None,
    words: str,
    distill: Run,
    sample: Run,
    world: World,
    tmp_path: Path,
) -> None:
    model = shutil.copytree(world.teacher / "teacher", tmp_path / "model")
    file = model / name
    content = file.read_bytes()
    file.unlink()
    if damage is not None:
        file.write_bytes(damage(content))
    refused(distill("--teacher", model), words)
    refused(sample("--model", model), words)
    file.write_bytes(content)
    fine(sample("--model", model))


# --- sample


def test_sample_writes_a_line_for_each_source(sample: Run) -> None:
    lines = [json.loads(line) for line in fine(sample("--samples", 3)).out.splitlines()]
    assert [line["source"] for line in lines] == ["where are books sold in paris ?", "is it wet in rome in may ?"]
    assert all(len(line["hypotheses"]) == 3 for line in lines)
    assert fine(sample("--seed", 1)).out == fine(sample("--seed", 1, "--batch", 1)).out != fine(sample()).out


def test_sample_chooses_by_minimum_bayes_risk(sample: Run) -> None:
    candidates, chosen = (
        [json.loads(line)["hypotheses"] for line in fine(sample(option, 4)).out.splitlines()]
        for option in ("--samples", "--mbr")
    )
    assert [len(texts) for texts in chosen] == [1, 1]
    assert all(texts[0] in among for texts, among in zip(chosen, candidates, strict=True))


def test_sample_takes_decoders(sample: Run) -> None:
    cold, hot = (fine(sample("--decoder", f"{{name: logits, temperature: {t}}}")).out for t in ("0", "5.0"))
    assert cold == fine(sample("--decoder", "linear_head")).out != hot


def test_sample_in_bf16(sample: Run) -> None:
    low, wide = (fine(sample("--precision", name)).out.splitlines() for name in ("bf16", "fp32"))
    assert len(low) == len(wide) > 0


def test_sample_reads_standard_input(sample: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("where are books sold in paris ?\n"))
    assert len(fine(sample("--input", "-")).out.splitlines()) == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    refused(sample("--input", "-"), "standard input holds no text; give one source a line")


@pytest.mark.parametrize("sampler", ["ancestral", "{name: ancestral, rounding: true}", "ddim"])
def test_sample_takes_samplers(sampler: str, sample: Run) -> None:
    fine(sample("--sampler", sampler))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--steps", 0], "--steps 0: give at least 1"),
        (["--steps", -3], "--steps -3: give at least 1"),
        (["--steps", 51], "steps=51 is more than the 50 steps this model was trained with"),
        (["--samples", 0], "--samples 0: give at least 1"),
        (["--batch", 0], "--batch 0: give at least 1"),
        (["--sampler", "dim"], "samplers: nothing is called 'dim'; did you mean 'ddim'?"),
        (["--sampler", "{name: ddim, stepz: 3}"], "samplers 'ddim': unknown key 'stepz'; did you mean 'steps'?"),
        (["--sampler", "{name: ddim"], "not a YAML mapping"),
        (["--sampler", "{steps: 3}"], "lack a 'name'"),
        (["--decoder", "neerest"], "decoders: nothing is called 'neerest'; did you mean 'nearest'?"),
        (
            ["--decoder", "{name: logits, top_p: 2}"],
            "decoders 'logits': top_p: Input should be less than or equal to 1",
        ),
        (["--decoder", "{name: logits"], "--decoder {name: logits: not a YAML mapping"),
        (["--mbr", 1], "mbr=1: give 0 for none, or at least 2 candidates"),
        (["--mbr", 4, "--samples", 2], "mbr=4 with num_samples=2: give one of the two"),
        (["--guidance", 2], "guidance=2: this teacher was never trained without its sources; train one with fit."),
        (["--guidance", "inf"], "guidance must be a finite number, not inf; 1 is none"),
        (["--sampler", "one_step"], "samplers 'one_step': steps: Input should be less than or equal to 1"),
        (["--precision", "fp8"], "--precision fp8: give fp32 or bf16"),
        (["--model", "nowhere"], "nowhere does not exist"),
        (["--input", "nowhere"], "cannot read nowhere: No such file or directory"),
    ],
)
def test_sample_refuses(args: list[object], words: str, sample: Run) -> None:
    refused(sample(*args), words)


def test_sample_refuses_input_without_text(sample: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n  \n")
    refused(sample("--input", tmp_path / "empty"), "holds no text; give one source a line")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    refused(sample("--input", tmp_path / "binary"), "is not UTF-8 text")
    refused(sample("--input", tmp_path), f"cannot read {tmp_path}: Is a directory")


def test_a_long_source_is_refused_or_cut(sample: Run, world: World, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("is it wet in rome in may ?\n" + "a " * 30 + "\n")
    refused(sample("--input", tmp_path / "long"), "source 2: 32 source ids, but only 19 fit a sequence of 24")
    model = shutil.copytree(world.teacher / "teacher", tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "overlong": "truncate"}))
    assert len(fine(sample("--input", tmp_path / "long", "--model", model)).out.splitlines()) == 2


# --- eval


def test_sample_writes_decode_files(run: Run, world: World, tmp_path: Path) -> None:
    start = ["sample", "--model", world.teacher, "--steps", 2, "--samples", 2, "--seed", 5]
    given = ["--data", world.data, "--split", "valid", "--decodes", tmp_path / "out"]
    result = fine(run(*start, *given))
    files = [tmp_path / "out" / f"seed{seed}_step50.json" for seed in (5, 6)]
    assert result.out == "".join(f"decoded: {file}\n" for file in files)
    tokenizer = load_teacher(world.teacher).tokenizer
    encoded = tokenizer.encode_batch([pair.src for pair in read_split(world.data, "valid")])
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["source"] for line in lines] == [f"{tokenizer.decode_marked(ids)} [SEP]" for ids in encoded]
    refused(run(*start, "--decodes", tmp_path / "out"), "--decodes and --data go together")
    refused(run(*start, *given, "--input", world.sources), "leave --input and --mbr out")
    refused(run(*start, *given, "--split", "dev"), "no dev data")


def test_eval_scores_a_split(run: Run, world: World, tmp_path: Path) -> None:
    args = ["eval", "--model", world.teacher, "--data", world.data, "--steps", 2, "--limit", 3]
    assert "bleu" in json.loads(fine(run(*args)).out.splitlines()[0])
    decoder = "{name: logits, top_k: 3}"
    fine(run(*args, "--split", "valid", "--mbr", 2, "--decoder", decoder, "--json", tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["models"][0]["metrics"]["bleu"] >= 0.0
    assert report["models"][0]["mbr"] == 2
    assert report["protocol"]["decoder"] == {"name": "logits", "temperature": 1.0, "top_k": 3, "top_p": 1.0}


def test_a_teacher_is_trained_for_guidance_and_guided(train: Run, run: Run, world: World, tmp_path: Path) -> None:
    fine(train("--set", "fit.condition_dropout=0.5", "--set", "fit.optimizer.lr=0.01"))
    args = ["--model", tmp_path / "run", "--steps", 2]
    start = ["sample", *args, "--input", world.sources, "--samples", 4]
    plain, led = (fine(run(*start, "--guidance", w)).out for w in (1, 8))
    assert plain == fine(run(*start)).out != led
    given = ["--data", world.data, "--guidance", 8]
    fine(run("eval", *args, *given, "--limit", 2, "--json", tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["protocol"]["guidance"], report["models"][0]["nfe"]) == (8.0, 4)
    fine(run("sample", *args, *given, "--split", "valid", "--decodes", tmp_path / "led"))
    fine(run("sample", *args, *given[:2], "--split", "valid", "--decodes", tmp_path / "plain"))
    (one,), (other,) = (list((tmp_path / name).iterdir()) for name in ("led", "plain"))
    assert one.name == other.name
    assert one.read_text() != other.read_text()


def test_eval_scores_files(run: Run, world: World, tmp_path: Path) -> None:
    line = {"recover": "[CLS] a b c d [SEP]", "reference": "[CLS] a b c d [SEP]", "source": "[CLS] e [SEP] [SEP]"}
    for seed in range(3):
        (tmp_path / f"seed{seed}.json").write_text(json.dumps(line) + "\n")
    found = json.loads(fine(run("eval", "--decodes", tmp_path, "--mbr", 3)).out)
    assert found["bleu"] == found["self_bleu"] == 1
    (tmp_path / "sources.txt").write_text("a b\n")
    texts = fine(run("sample", "--model", world.teacher, "--steps", 2, "--input", tmp_path / "sources.txt")).out
    (tmp_path / "samples.jsonl").write_text(texts)
    (tmp_path / "test.jsonl").write_text('{"src": "a b", "trg": "c"}\n')
    args = ["eval", "--decodes", tmp_path / "samples.jsonl", "--data", tmp_path, "--json", tmp_path / "out" / "r.json"]
    fine(run(*args, "--protocol", "raw"))
    assert json.loads((tmp_path / "out" / "r.json").read_text())["protocol"]["reference_text"] == "raw"
    fine(run(*args, "--model", world.teacher))
    refused(run(*args), "give the --model that wrote")
    refused(run("eval", "--decodes", tmp_path / "gone"), "no such file or folder")
    refused(run("eval"), "give --model with --data to score a model, or --decodes")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--split", "tset"], "no tset data"),
        (["--protocol", "mine"], "mine"),
        (["--json", "."], "--json .: give the name of a file"),
        (["--mbr", 1], "mbr=1: give 0 for none, or at least 2 candidates"),
        (["--limit", 0], "--limit 0: give at least 1"),
        (["--model", "nowhere"], "nowhere does not exist"),
        (["--data", "nowhere"], "nowhere: no such data folder"),
        (["--data", __file__], "a file; give the data folder that holds test.jsonl"),
        (["--split", ""], "there is no split ''; give the name of a file of the data folder"),
        (["--split", "../data/test"], "there is no split '../data/test'"),
        (["--bertscore", "no/model/here"], "cannot read the model no/model/here"),
        (["--bertscore", "{model: x, depth: 3}"], "unknown key 'depth'"),
        (["--bertscore", "{model"], "--bertscore {model: not a YAML mapping; write '{model: DIR, layer: 9}'"),
        (["--guidance", 2], "guidance=2: this teacher was never trained without its sources"),
        (["--decodes", "x"], "--steps, --sampler, --decoder, --guidance, --samples and --precision say how to write"),
    ],
)
def test_eval_refuses(args: list[object], words: str, run: Run, world: World) -> None:
    refused(run("eval", "--model", world.teacher, "--data", world.data, "--steps", 2, *args), words)


@pytest.fixture(scope="module")
def unconditional(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a teacher that writes without a source, with a split of texts beside its teacher."""
    folder = tmp_path_factory.mktemp("unconditional")
    texts = [pair.trg for pair in read_split(world.data, "train")]
    for split in ("train", "test"):
        (folder / f"{split}.txt").write_text("\n".join(texts))
    settings = {"model": {"layout": "padded"}, "evaluation": {"metric": None}}
    return tiny.run_fit(folder, folder / "run", **settings).parent


def test_texts_without_a_source(run: Run, unconditional: Path, world: World) -> None:
    start = ("sample", "--model", unconditional, "--steps", 2)
    lines = fine(run(*start, "--samples", 3)).out.splitlines()
    assert [list(json.loads(line)) for line in lines] == [["text"]] * 3
    assert fine(run(*start, "--samples", 2)).out.splitlines() == lines[:2]
    refused(run(*start, "--input", world.sources), f"--input {world.sources}: this model writes without a source")
    refused(run(*start, "--mbr", 3), "mbr=3 chooses among texts of a source")


def test_a_score_of_texts_without_a_source(run: Run, unconditional: Path, world: World, tmp_path: Path) -> None:
    start = ("eval", "--model", unconditional, "--steps", 2, "--samples", 4)
    data = ("--data", unconditional.parent)
    wanted = ("--metric", "{name: distinct_n, n: 1}", "--json", tmp_path / "report.json")
    printed = json.loads(fine(run(*start, *data, *wanted)).out.splitlines()[0])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["models"][0]["metrics"] == printed
    assert printed.keys() == {"dist_1", "distinct_n", "entropy", "ngram_divergence", "seq_rep_n"}
    assert report["protocol"]["settings"]["distinct_n"] == {"n": 1, "over": "corpus"}
    refused(run(*start, "--data", world.data), "this is a pair; give texts, or a model that reads pairs")
    refused(run(*start, *data, "--metric", "blue"), "blue")
    refused(run(*start, *data, "--metric", "entropy", "--metric", "entropy"), "--metric entropy is given twice")
    refused(run(*start, *data, "--metric", "bleu"), "metric 'bleu' needs a reference for every source")
    refused(run(*start, *data, "--metric", "{name: gen_ppl, model: /nowhere}"), "cannot read the model /nowhere")
    assert "entropy" in fine(run("eval", "--model", world.teacher, "--data", world.data, "--metric", "entropy")).out
