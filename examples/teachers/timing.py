"""Seconds of a text against steps, of every model of `measure.sh` in one process, one after the other in each round.

python examples/teachers/timing.py --runs RUNS --json FILE

Medians over rounds in which models and steps take turns; text out, 32 texts at once. Let nothing else run beside it.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from dlkit.files import write_json
from dlkit.generator import load
from dlkit.generator.text_model import TextModel

STEPS = {"flm/teacher": (1, 2, 4, 8, 16, 32), "plaid/teacher": (1, 2, 4, 8, 16, 32)}
STUDENTS = ("psd/student", "sid_flm/student", "sid_plaid/student")
SAMPLERS = {"flm/teacher": "euler", "plaid/teacher": "plaid"}
TEXTS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    wanted = {**STEPS, **dict.fromkeys(STUDENTS, (1, 2, 4, 8))}
    models = {name: load(args.runs / name) for name in wanted if (args.runs / name).exists()}
    cases = [(name, steps) for name in models for steps in wanted[name]]
    rounds = [[seconds(models[name], name, steps) for name, steps in cases] for _ in range(args.rounds + 1)][1:]
    found: dict[str, dict[str, Any]] = {}
    for number, (name, steps) in enumerate(cases):
        values = [measured[number] / TEXTS for measured in rounds]
        found.setdefault(name.partition("/")[0], {})[str(steps)] = {
            "median": statistics.median(values),
            "least": min(values),
            "most": max(values),
        }
    setting = {"texts": TEXTS, "rounds": args.rounds, "threads": torch.get_num_threads(), "torch": torch.__version__}
    write_json(args.json, {"unit": "seconds per text", **setting, "models": found})


def seconds(model: TextModel, name: str, steps: int) -> float:
    """Of one call."""
    start = time.perf_counter()
    model.generate(num_samples=TEXTS, steps=steps, sampler=SAMPLERS.get(name))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
