"""Score a teacher with every sampler at several numbers of steps: the rows of docs/results/teacher-samplers.md.

python examples/samplers/measure.py --model TEACHER --data DATA --out ROWS --plan 10:1024x4,50:512x4,200:256x4

A plan names, for each number of steps, how many sources of the test split and how many texts of each are written. A row
that is there already is not made again, so the script can be stopped and restarted.
"""

import argparse
from pathlib import Path
from typing import Any

from dlkit.evaluation.folder import evaluate_folder
from dlkit.files import write_json
from dlkit.generator import load_teacher

SAMPLERS = ("ancestral", "ddim", "ddim_legacy", "dpm_solver_pp_2m")


def plan(text: str) -> list[tuple[int, int, int]]:
    """``steps:sourcesxtexts`` of each part."""
    parts = (part.replace("x", ":").split(":") for part in text.split(","))
    return [(int(steps), int(sources), int(texts)) for steps, sources, texts in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", type=plan, required=True)
    args = parser.parse_args()
    teacher = load_teacher(args.model)
    for steps, sources, texts in args.plan:
        for name in SAMPLERS:
            for rounding in (False, True):
                file = args.out / f"{name}-{steps}{'-rounded' if rounding else ''}.json"
                if not file.exists():
                    sampler: dict[str, Any] = {"name": name, "steps": steps, "rounding": rounding}
                    options = {"sampler": sampler, "num_samples": texts, "limit": sources, "batch_size": 64}
                    write_json(file, evaluate_folder(teacher, args.data, "test", "dlkit", **options))
                    print(file.name, flush=True)


if __name__ == "__main__":
    main()
