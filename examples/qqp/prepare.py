"""Make the QQP data folder of docs/results/qqp.md: train + train_extra without the pairs that repeat a held-out one.

    python examples/qqp/prepare.py --source QQP_FOLDER --out DATA

QQP_FOLDER has train, train_extra, valid and test as .jsonl.gz, one {"src", "trg"} a line. Writes train, valid, test,
and test_unseen: the test pairs whose source does not occur in train.
"""

import argparse
import re
from pathlib import Path

from dlkit.data.pairs import Pair, read_split, write_split


def normal(text: str) -> str:
    """Lower case, letters and digits of any script only: texts equal under this are the same question."""
    return re.sub(r"[\W_]", "", text.casefold())


def key(pair: Pair) -> frozenset[str]:
    """A pair without its order."""
    return frozenset((normal(pair.src), normal(pair.trg)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    valid, test = read_split(args.source, "valid"), read_split(args.source, "test")
    held_out = {key(pair) for pair in (*valid, *test)}
    train = [*read_split(args.source, "train"), *read_split(args.source, "train_extra")]
    kept = [pair for pair in train if key(pair) not in held_out]
    seen = {normal(text) for pair in kept for text in (pair.src, pair.trg)}
    unseen = [pair for pair in test if normal(pair.src) not in seen]
    for name, pairs in {"train": kept, "valid": valid, "test": test, "test_unseen": unseen}.items():
        write_split(args.out / f"{name}.jsonl.gz", pairs)
        print(f"{name}: {len(pairs)} pairs")
    print(f"dropped {len(train) - len(kept)} training pairs that repeat a held-out pair")


if __name__ == "__main__":
    main()
