"""Distil the demo's teacher with every objective at equal compute: the rows of docs/results/objectives.md.

python examples/objectives/compare.py --teacher TEACHER --data DATA --out ROWS --seeds 0,1,2 [--units 1440] [--only dmd]

One unit is one pass forward through a network for a batch: a pass backward to its weights is two, one to its input
alone is one. Every arm gets as many updates as the same number of units pays for. A row that is there already is not
made again, so the script can be stopped and restarted.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit import recipes
from dlkit.evaluation.folder import evaluate_folder
from dlkit.files import write_json
from dlkit.generator import load_student
from dlkit.recipe import Recipe
from dlkit.training.distill import distill

FORWARD, WEIGHTS, INPUT = 1, 2, 1  # units of the passes
GENERATED, TRAINED = FORWARD, FORWARD + WEIGHTS  # a text made for the critic; a network that learns
MATCHED = GENERATED + TRAINED + TRAINED + 2 * FORWARD  # critic: text, psi; student: itself, teacher, psi
ADVERSARY = TRAINED + INPUT  # critic: psi on real text; student: through psi to its input


@dataclass(frozen=True)
class Arm:
    """One objective, and what an update of it costs.

    Attributes:
        objective: its specification.
        units: of one update of critic and student, without an adversary.
        adv: None, or the adversary's weight in the turns of critic and student.
    """

    objective: dict[str, Any]
    units: int
    adv: float | None = None

    @property
    def cost(self) -> int:
        """Units of one update, adversary included."""
        is_alone = self.objective["name"] == "adversarial"
        return self.units + (ADVERSARY if self.adv is not None and not is_alone else 0)

    def recipe(self, units: int, lr: float) -> Recipe:
        """The demo's Recipe with this objective, as many updates as ``units`` pay for."""
        updates = units // self.cost
        settings: dict[str, Any] = {"objective": self.objective, "stages": [{"steps": updates}]}
        demo = recipes.get("demo")
        settings["generator"] = {**demo.generator.model_dump(), "lr": lr}
        settings["evaluation"] = {**demo.evaluation.model_dump(), "every": max(updates // 8, 1)}
        if self.adv is not None:
            settings |= {"adv": True, "weights": {"b_adv_psi": self.adv, "b_adv_theta": self.adv}}
        return demo.replace(**settings)


def arms(adv: float) -> dict[str, Arm]:
    """Every arm by its name."""
    matched: dict[str, tuple[dict[str, Any], int]] = {
        "sid mu 0.5": ({"name": "sid", "mu": 0.5}, MATCHED + 2 * INPUT),
        "sid mu 1": ({"name": "sid", "mu": 1.0}, MATCHED + 2 * INPUT),
        "sid mu 1.2": ({"name": "sid", "mu": 1.2}, MATCHED + 2 * INPUT),
        "dmd": ({"name": "dmd"}, MATCHED),
        "diff_instruct": ({"name": "diff_instruct"}, MATCHED),
        "moment_matching": ({"name": "moment_matching"}, MATCHED + FORWARD),  # the teacher in the critic's turn too
        "fisher": ({"name": "fisher"}, MATCHED + 2 * INPUT),
    }
    found = {name: Arm(*what) for name, what in matched.items()}
    found |= {f"{name} + adv": Arm(*what, adv) for name, what in matched.items() if name != "fisher"}
    for divergence in ("forward_kl", "jensen_shannon"):
        found[f"f_distill {divergence} + adv"] = Arm({"name": "f_distill", "divergence": divergence}, MATCHED, adv)
    alone = GENERATED + 2 * TRAINED + TRAINED + FORWARD + INPUT  # critic: text, psi on both; student: itself, psi
    return found | {"adversarial": Arm({"name": "adversarial"}, alone, 0.5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--units", type=int, default=1440, help="of each run; 1440 are 160 updates of dmd")
    parser.add_argument("--rates", type=lambda text: [float(rate) for rate in text.split(",")], default=[1.5e-3, 5e-4])
    parser.add_argument("--adv", type=float, default=0.05, help="weight of the adversary beside another objective")
    parser.add_argument("--sources", type=int, default=512)
    parser.add_argument("--only", help="arms whose names begin so")
    args = parser.parse_args()
    for seed in args.seeds:
        for name, arm in arms(args.adv).items():
            if name.startswith(args.only or ""):
                for rate in args.rates if seed == args.seeds[0] else [best_rate(args.out, name, args.seeds[0])]:
                    measure(args, name, arm, seed, rate)


def measure(args: argparse.Namespace, name: str, arm: Arm, seed: int, rate: float) -> None:
    """One row, if it is not there yet."""
    run = args.out / name.replace(" ", "-") / f"{seed}-{rate}"
    if (run / "row.json").exists():
        return
    recipe = arm.recipe(args.units, rate)
    result = distill(recipe, args.teacher, args.data, run, seed=seed, resume=run.exists())
    student = load_student(result.student)
    report = evaluate_folder(
        student, args.data, "test", "dlkit", num_samples=10, limit=args.sources, batch_size=256, seed=seed
    )
    seconds = [json.loads(line)["seconds"] for line in result.log.read_text().splitlines()][-1]
    updates = recipe.stages[0].steps
    row = {"arm": name, "seed": seed, "rate": rate, "updates": updates, "units": updates * arm.cost}
    write_json(run / "row.json", {**row, "seconds": seconds, "best": result.best, "report": report})
    print(name, seed, rate, result.best, report["models"][0]["metrics"], flush=True)


def best_rate(rows: Path, arm: str, seed: int) -> float:
    """The rate whose student was best on the validation split."""
    found = [json.loads(file.read_text()) for file in (rows / arm.replace(" ", "-")).glob(f"{seed}-*/row.json")]
    return max(found, key=lambda row: row["best"]["score"] or 0.0)["rate"]


if __name__ == "__main__":
    main()
