"""Data folders of text without a source: the E2E texts, and news sentences of LM1B.

python examples/teachers/prepare.py --data DATA --out OUT

DATA holds `e2e/{valid,test}.jsonl.gz` ({"src": fields, "trg": text}) and `lm1b/{valid,test}.txt.gz` (a text a line).
Of E2E, the texts of its validation file and of the first restaurants of its test file are for training; no set of
fields is in two splits, and neither is a text. Of LM1B, the validation file and half of the test file.
"""

import argparse
import gzip
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from dlkit.files import atomic_file

E2E_VALID, E2E_TEST = 500, 1500
LM1B_VALID, LM1B_TEST = 1000, 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name, split in (("e2e", e2e), ("lm1b", lm1b)):
        for part, texts in split(arguments.data / name).items():
            write(arguments.out / name / f"{part}.txt.gz", texts)
            print(f"{name}/{part}: {len(texts)} texts")


def e2e(folder: Path) -> dict[str, list[str]]:
    """Whole groups of equal fields from the end of the test file are held out."""
    rows = [json.loads(line) for name in ("valid", "test") for line in read(folder / f"{name}.jsonl.gz")]
    groups = [[row["trg"] for row in same] for _, same in groupby(rows, key=lambda row: row["src"])]
    held = {"test": taken(groups, E2E_TEST), "valid": taken(groups, E2E_VALID)}
    return apart({**held, "train": [text for group in groups for text in group]})


def taken(groups: list[list[str]], least: int) -> list[str]:
    """The texts of the last groups, at least so many; they are no longer among the groups."""
    texts: list[str] = []
    while len(texts) < least:
        texts += groups.pop()
    return texts


def lm1b(folder: Path) -> dict[str, list[str]]:
    """The last lines of the test file are held out."""
    texts = [line.strip() for name in ("valid", "test") for line in read(folder / f"{name}.txt.gz")]
    cut = len(texts) - LM1B_TEST
    return apart({"test": texts[cut:], "valid": texts[cut - LM1B_VALID : cut], "train": texts[: cut - LM1B_VALID]})


def apart(splits: dict[str, list[str]]) -> dict[str, list[str]]:
    """Each text in the first split that has it."""
    seen: set[str] = set()
    kept: dict[str, list[str]] = {}
    for name, texts in splits.items():
        kept[name] = [text for text in texts if text.strip() and text not in seen]
        seen.update(texts)
    return kept


def read(file: Path) -> Iterable[str]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from lines


def write(file: Path, texts: list[str]) -> None:
    """Gzipped without a time in its header, so that equal texts give equal files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(file) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
    ):
        packed.writelines(f"{text}\n".encode() for text in texts)


if __name__ == "__main__":
    main()
