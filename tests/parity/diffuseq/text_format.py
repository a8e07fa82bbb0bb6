"""Pairs of ids as one sequence with its mask, and the original's helper that fills up rows."""

from dlkit.data.sequences import merge_pair, padded
from parity.cases import Case


def check(case: Case) -> None:
    groups = case.json("cases")
    assert groups
    for group in groups:
        for item in group["items"]:
            merged = merge_pair(
                item["src"], item["trg"], group["seq_len"], group["sep_token_id"], group["pad_token_id"]
            )
            assert merged == (item["input_ids"], item["input_mask"]), (case.name, group["seq_len"], item)
    check_filling_up(case)


def check_filling_up(case: Case) -> None:
    """The helper's mask is 1 inside a row and, oddly, the padding's id outside."""
    golden = case.json("collate")
    length, value = golden["max_length"], golden["pad_token_id"]
    assert [padded(row, length, value) for row in golden["examples"]] == golden["result"]
    assert [padded([1] * len(row), length, value) for row in golden["examples"]] == golden["mask"]
