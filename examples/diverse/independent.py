"""What independent draws of a student's codes would give, from all that it can write.

python examples/diverse/independent.py --model runs/diverse/diverse-0/student --data demo-out/data \
    --json runs/diverse/codes-0.json

Every code is asked once for each source. Of C codes a text that c of them write is among S draws with the probability
1 - (1 - c/C)^S if they are independent, 1 - binom(C - c, S) / binom(C, S) without replacement; the sum over the right
texts, divided by S, is the expected `distinct_valid`.
"""

import argparse
from collections import Counter
from math import comb
from pathlib import Path
from statistics import mean

from dlkit.files import write_json
from dlkit.generator import load_student
from dlkit.training.data import HeldOut

SAMPLES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=128, help="sources of test")
    args = parser.parse_args()
    student, held_out = load_student(args.model), HeldOut.read(args.data, "test", args.limit)
    codes = student.architecture.sampler.starts
    if codes is None or held_out.grammar is None:
        parser.error("give a student of some codes and the built-in corpus")
    written = student.generate(held_out.sources, num_samples=codes)
    found: dict[str, list[float]] = {"right": [], "different_right": [], "independent": [], "without_replacement": []}
    for source, texts in zip(held_out.sources, written, strict=True):
        right = held_out.grammar.paraphrases(source)
        counts = Counter(text for text in texts if text in right).values()
        found["right"].append(sum(counts) / codes)
        found["different_right"].append(float(len(counts)))
        found["independent"].append(sum(1 - (1 - c / codes) ** SAMPLES for c in counts) / SAMPLES)
        drawn = (1 - comb(codes - c, SAMPLES) / comb(codes, SAMPLES) for c in counts)
        found["without_replacement"].append(sum(drawn) / SAMPLES)
    write_json(args.json, {"codes": codes, "sources": args.limit} | {name: mean(each) for name, each in found.items()})


if __name__ == "__main__":
    main()
