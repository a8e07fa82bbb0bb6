"""Score real texts as if a model had written them: how good the metrics of docs/results/teachers.md can be.

python examples/teachers/real.py --data DATA --model MODEL --judge JUDGE --json FILE

Texts of the validation split, which neither a model nor the judge learnt from, as many as a model was asked for, as its
tokenizer writes them, beside those of the test split.
"""

import argparse
from pathlib import Path

from dlkit.files import write_json
from dlkit.generator import load
from dlkit.metrics._base import Cases, usual_metrics
from dlkit.metrics.gen_ppl import GenPpl
from dlkit.training.data import read_held_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="whose tokenizer is used")
    parser.add_argument("--judge", required=True)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    model = load(args.model)
    arch, splits = model.architecture, {}
    for split, limit in (("valid", args.samples), ("test", None)):
        read = read_held_out(args.data, split, arch.layout, limit)
        splits[split] = read.normalised(model.tokenizer, arch.seq_len, arch.overlong).texts  # type: ignore[union-attr]
    cases = Cases.without_sources(splits["valid"], splits["test"])
    metrics = [*usual_metrics(sources=False), GenPpl(model=args.judge)]
    values = {metric.registered_name: metric.score(cases) for metric in metrics if metric.needs <= cases.offers}
    write_json(args.json, {"split": "valid", "texts": len(splits["valid"]), "metrics": values})


if __name__ == "__main__":
    main()
