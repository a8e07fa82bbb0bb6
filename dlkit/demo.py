"""The demo: corpus, teacher, distillation, evaluation, report, in three minutes on two cores."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit import recipes
from dlkit.data.grammar import Grammar, is_grammar, write_corpus
from dlkit.errors import UserError
from dlkit.evaluation.evaluate import Row, evaluate
from dlkit.evaluation.protocol import Protocol
from dlkit.evaluation.report import report_dict, write_report
from dlkit.evaluation.timing import fewest_steps, time_models
from dlkit.files import atomic_folder, read_json, write_json
from dlkit.generator import OneStepGenerator, Teacher, TextModel, load_student, load_teacher, sample_keys
from dlkit.training.data import HeldOut
from dlkit.training.distill import distill
from dlkit.training.fit import fit
from dlkit.training.folder import read_log
from dlkit.training.progress import Reporter

SHIPPED = Path(__file__).parent / "models" / "demo"
SCORES = "scores.json"
N_TRAIN = 100_000
N_SOURCES = 1024  # test sources behind every row
N_SHOWN = 12  # sources whose texts are shown, the first ones
TIMED = 128  # texts in the batch that is timed


@dataclass(frozen=True)
class Setting:
    """One way of asking a teacher, and how many texts of each source its row rests on."""

    sampler: str
    steps: int
    rounding: bool
    samples: int

    @property
    def name(self) -> str:
        return f"{self.sampler} {self.steps}" + (" rounded" if self.rounding else "")

    @property
    def spec(self) -> dict[str, Any]:
        return {"name": self.sampler, "steps": self.steps, "rounding": self.rounding}


# Long runs get fewer samples: a text of the full ancestral run costs two thousand network calls.
SETTINGS = (
    Setting("ddim", 1, False, 10),
    Setting("ddim", 2, False, 10),
    Setting("ddim", 4, False, 10),
    Setting("ddim", 10, False, 10),
    Setting("ddim", 20, False, 10),
    Setting("ddim", 20, True, 10),
    Setting("ancestral", 20, False, 10),
    Setting("ancestral", 20, True, 10),
    Setting("ddim", 50, False, 4),
    Setting("ddim", 200, False, 1),
    Setting("ancestral", 2000, True, 1),
)
CHOOSABLE = tuple(setting for setting in SETTINGS if setting.samples == 10)


def run(
    out: str | Path, *, seed: int = 0, full: bool = False, from_scratch: bool = False, reporter: Reporter | None = None
) -> Path:
    """Run the demo into a folder; the same call goes on where an earlier one stopped.

    Args:
        out: gets report.html, report.json, teacher, student, data and run.
        seed: of distillation and sampling.
        full: score the teacher again, at every setting (about two hours on two cores).
        from_scratch: train the teacher (about an hour) instead of taking the shipped one.

    Returns:
        the file of the report.

    Raises:
        UserError: the folder holds something else, or the demo with other options.
    """
    out, reporter = Path(out), reporter or Reporter()
    _claim(out, {"demo": 1, "seed": seed, "from_scratch": from_scratch})
    recipe = recipes.get("demo")
    if not is_grammar(out / "data"):
        write_corpus(out / "data", n_train=N_TRAIN)
    _provide_teacher(out, recipe, from_scratch, reporter)
    teacher = load_teacher(out / "teacher")
    if full or not (out / "teacher" / SCORES).exists():
        score_teacher(teacher, out, reporter)
    result = distill(recipe, out / "teacher", out / "data", out / "run", seed=seed, resume=True, reporter=reporter)
    _copy(result.student, out / "student")
    report = _report(teacher, load_student(out / "student"), out, seed, reporter)
    write_report(out, report)
    return out / "report.html"


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Make the folder ours, or see that it is."""
    marker = out / "demo.json"
    if marker.exists():
        if read_json(marker) != identity:
            raise UserError(f"{out} holds a demo with other options ({read_json(marker)}); give another --out")
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} already holds other files; give an empty folder as --out")
    else:
        write_json(marker, identity)


def _copy(source: Path, target: Path) -> None:
    """Copy a model folder whole or not at all: a demo killed in the middle goes on when it is called again."""
    with atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def _provide_teacher(out: Path, recipe: Any, from_scratch: bool, reporter: Reporter) -> None:
    if (out / "teacher" / "config.json").exists():
        return
    if not from_scratch:
        _copy(SHIPPED, out / "teacher")
        return
    fit(recipe, out / "data", out / "teacher-run", resume=True, reporter=reporter)
    # stored in half the space, as the shipped one; read back, so that its scores are those of the stored weights
    load_teacher(out / "teacher-run").save_pretrained(out / "teacher", dtype=torch.bfloat16)


def score_teacher(teacher: Teacher, out: Path, reporter: Reporter) -> None:
    """Rows of every setting on the test split; the setting to beat is chosen on the validation split.

    Chosen is the highest exact validity among the settings that can be sampled ten times for each source.
    """
    test, valid = HeldOut.read(out / "data", "test", N_SOURCES), HeldOut.read(out / "data", "valid", N_SOURCES)
    rows, chosen = [], {}
    for setting in CHOOSABLE:
        row, _ = evaluate(teacher, valid, name=setting.name, sampler=setting.spec)
        chosen[setting.name] = row.metrics["exact_validity"]
        reporter.say(f"teacher, validation, {setting.name}: exact validity {row.metrics['exact_validity']:.4f}")
    for setting in SETTINGS:
        row, _ = evaluate(teacher, test, name=setting.name, sampler=setting.spec, num_samples=setting.samples)
        rows.append(row.to_dict())
        reporter.say(f"teacher, test, {setting.name}: {row.metrics}")
    best = max(chosen, key=chosen.__getitem__)
    protocol = Protocol.of(teacher, out / "data", "test", N_SOURCES, num_samples=10).model_dump(mode="json")
    write_json(out / "teacher" / SCORES, {"chosen": best, "valid": chosen, "rows": rows, "protocol": protocol})


def _report(teacher: Teacher, student: OneStepGenerator, out: Path, seed: int, reporter: Reporter) -> dict[str, Any]:
    scores = read_json(out / "teacher" / SCORES)
    teacher_rows = [Row(**row) for row in scores["rows"]]
    target = next(row for row in teacher_rows if row.name == scores["chosen"])
    test = HeldOut.read(out / "data", "test", N_SOURCES)
    rows = student_rows(student, test, seed, reporter)
    reporter.say("timing teacher and student in one process")
    few = {metric: fewest_steps(teacher_rows, rows[0], metric) for metric in ("bleu", "exact_validity")}
    timing = time_models(teacher, student, test.sources[:TIMED], rounds=3, few_steps=few, seed=seed)
    named = [Row(**{**row.to_dict(), "name": f"teacher {row.name}"}) for row in teacher_rows]
    return report_dict(
        Protocol.of(student, out / "data", "test", N_SOURCES, num_samples=10, seed=seed),
        [*named, *rows],
        timing.pop("speedup"),
        timing=timing,
        title="dlkit demo: a question rewritten in one network call",
        targets=targets(target, rows[0]),
        samples=_samples(teacher, student, target, test, seed),
        emergence=_emergence(teacher, student, test.sources[0], seed),
        curves=read_log(out / "run" / "log.jsonl"),
        commands=[f"dlkit demo --out {out.name} --seed {seed}"],
        notes=[
            f"The teacher's setting to beat, {target.name}, was chosen on the validation split by exact validity.",
            "The teacher's rows are shipped with it; dlkit demo --full measures them again.",
        ],
    )


def student_rows(student: OneStepGenerator, test: HeldOut, seed: int, reporter: Reporter) -> list[Row]:
    """The student at 1, 2 and 4 calls."""
    rows = []
    for steps, samples in ((1, 10), (2, 4), (4, 4)):
        name = f"student {steps} call" + "s" * (steps > 1)
        row, _ = evaluate(student, test, name=name, steps=steps, num_samples=samples, seed=seed)
        reporter.say(f"{name}: BLEU {row.metrics['bleu']:.4f}, exact validity {row.metrics['exact_validity']:.4f}")
        rows.append(row)
    return rows


def targets(teacher: Row, student: Row) -> list[dict[str, Any]]:
    """What the project promises of the demo's student, against the one chosen setting of the teacher."""
    ours, theirs = student.metrics, teacher.metrics
    shares = {
        "bleu": ("BLEU", 0.95),
        "exact_validity": ("exact validity", 0.90),
        "distinct_valid": ("distinct valid", 0.40),
    }
    found = []
    for key, (name, share) in shares.items():
        ratio = ours[key] / theirs[key]
        text = f"{name}, share of the teacher's"
        found.append({"name": text, "value": round(ratio, 4), "bound": f"≥ {share}", "holds": ratio >= share})
    excess = ours["copy_rate"] - theirs["copy_rate"]
    copies = {
        "name": "copy rate above the teacher's",
        "value": round(excess, 4),
        "bound": "≤ 0.05",
        "holds": excess <= 0.05,
    }
    return [*found, copies]


def _samples(
    teacher: Teacher, student: OneStepGenerator, target: Row, test: HeldOut, seed: int
) -> list[dict[str, Any]]:
    """The first sources with four texts of each model."""
    grammar, pairs = Grammar(), test.pairs[:N_SHOWN]
    sources = [pair.src for pair in pairs]
    theirs = teacher.generate(sources, num_samples=4, sampler=target.sampler, seed=seed)
    ours = student.generate(sources, num_samples=4, seed=seed)
    return [
        {
            "source": pair.src,
            "references": list(pair.refs),
            "teacher": a,
            "student": b,
            "teacher_valid": [text in grammar.paraphrases(pair.src) for text in a],
            "student_valid": [text in grammar.paraphrases(pair.src) for text in b],
        }
        for pair, a, b in zip(pairs, theirs, ours, strict=True)
    ]


def _emergence(teacher: Teacher, student: OneStepGenerator, source: str, seed: int) -> dict[str, Any]:
    """One sentence along the teacher's DDIM calls, and the student's."""
    return {
        "source": source,
        "teacher": _watch(teacher, source, seed, sampler="ddim", steps=10),
        "student": _watch(student, source, seed, steps=1),
    }


def _watch(model: TextModel, source: str, seed: int, **sampling: Any) -> list[dict[str, Any]]:
    """What the model would write after each call."""
    seen: list[dict[str, Any]] = []
    length, keys = len(model.tokenizer.encode(source)) + 1, sample_keys([source], 1)

    def observe(k: int, t: float, x_t: Tensor, x0: Tensor) -> None:
        tokens = model.read(x0, keys, seed)[0, length:].tolist()
        seen.append({"call": k + 1, "t": round(t, 4), "text": model.tokenizer.decode(model.until_end(tokens))})

    model.generate([source], seed=seed, observe=observe, **sampling)
    return seen
