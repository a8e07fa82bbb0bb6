"""The laws of the sequence format, and the order of batches; ``parity`` compares the format with DiffuSeq's own."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlkit.data.pairs import Pair
from dlkit.data.sequences import (
    Rows,
    batch_indices,
    epoch_order,
    merge_pair,
    merge_source,
    packed_texts,
    padded,
    padded_text,
    without_source,
)
from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.errors import UserError

PAD, CLS, SEP = 0, 2, 3
TEXT = st.lists(st.integers(5, 99), max_size=30).map(lambda words: [CLS, *words, SEP])


@given(TEXT, TEXT)
def test_a_pair_that_fits_can_be_read_back(src: list[int], trg: list[int]) -> None:
    seq_len = 65  # room for the longest two texts
    for overlong in ("truncate", "refuse"):
        ids, mask = merge_pair(src, trg, seq_len, SEP, PAD, overlong)
        given_part = [i for i, m in zip(ids, mask, strict=True) if m == 0]
        target = [i for i, m in zip(ids, mask, strict=True) if m == 1]
        assert given_part == [*src, SEP]
        assert target == trg + [PAD] * (seq_len - len(src) - 1 - len(trg))


@given(TEXT, TEXT, st.integers(3, 70))
def test_any_pair_makes_a_sequence_of_the_length(src: list[int], trg: list[int], seq_len: int) -> None:
    ids, mask = merge_pair(src, trg, seq_len, SEP, PAD)
    assert len(ids) == len(mask) == seq_len
    assert all(a <= b for a, b in pairwise(mask))
    cut = mask.index(1)
    words = ids[: cut - 2], ids[cut : len(ids) - ids[::-1].index(SEP) - 1]
    assert words[0] == src[: len(words[0])]
    assert words[1] == trg[: len(words[1])]
    if (
        len(src) + len(trg) + 1 > seq_len
    ):  # only the longer part is cut, so a cut part is not the shorter one by more than 1
        assert seq_len - 4 <= len(words[0]) + len(words[1]) <= seq_len - 3
        assert len(words[0]) == len(src) - 1 or len(words[0]) >= len(words[1]) - 1
        assert len(words[1]) == len(trg) - 1 or len(words[1]) >= len(words[0]) - 1


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(0, 9))
def test_rows_are_cut_or_filled_up(row: list[int], length: int) -> None:
    whole = padded(row, length, -1)
    assert len(whole) == length
    assert whole[: len(row)] == row[:length]
    assert set(whole[len(row) :]) <= {-1}


def test_refusing_begins_where_the_pair_no_longer_fits() -> None:
    src, trg = [CLS, 5, 6, SEP], [CLS, 7, SEP]
    assert merge_pair(src, trg, 8, SEP, PAD, "refuse")[0] == [*src, SEP, *trg]
    with pytest.raises(
        UserError, match=r"^line 9: 4 source and 3 target ids, but only 6 fit .* of 7; set model\.overlong"
    ):
        merge_pair(src, trg, 7, SEP, PAD, "refuse", where="line 9")


def test_sequences_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"set model\.seq_len to 3"):
        merge_pair([CLS, SEP], [CLS, SEP], 2, SEP, PAD)
    with pytest.raises(UserError, match=r"set model\.seq_len to 6"):
        merge_source([CLS, SEP], 5, SEP, PAD)
    for src, trg in (([], [CLS, SEP]), ([CLS, SEP], [])):
        with pytest.raises(ValueError, match="without any id"):
            merge_pair(src, trg, 9, SEP, PAD)


@given(TEXT, st.integers(6, 70))
def test_a_source_alone_leaves_room_for_a_target(src: list[int], seq_len: int) -> None:
    ids, mask = merge_source(src, seq_len, SEP, PAD)
    n_given = mask.count(0)
    assert len(ids) == len(mask) == seq_len
    assert n_given == min(len(src) + 1, seq_len - 4)
    assert mask == [0] * n_given + [1] * (seq_len - n_given)
    assert ids == [*src[: n_given - 2], SEP, SEP] + [PAD] * (seq_len - n_given)


@given(TEXT)
def test_source_and_pair_agree_on_the_given_part(src: list[int]) -> None:
    ids, mask = merge_pair(src, [CLS, 7, SEP], 64, SEP, PAD)
    alone, alone_mask = merge_source(src, 64, SEP, PAD)
    assert mask == alone_mask
    assert ids[: mask.index(1)] == alone[: mask.index(1)]


def test_an_overlong_source_can_be_refused() -> None:
    src = [CLS, 5, 6, SEP]
    assert merge_source(src, 9, SEP, PAD, "refuse")[1].count(1) == 4
    with pytest.raises(UserError, match=r"^query: 4 source ids, but only 3 fit .* model\.seq_len$"):
        merge_source(src, 8, SEP, PAD, "refuse", where="query")


PAIRS = [Pair("a b c", ("d e", "e")), Pair("b", ("a",)), Pair("a b c d e a b c", ("a b c d e",))]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer("train:word:100", [text for pair in PAIRS for text in (pair.src, *pair.refs)])


def test_encoded_pairs(tokenizer: Tokenizer) -> None:
    data = Rows.of_pairs(PAIRS, tokenizer, 14)
    assert (len(data), data.n_truncated, data.ids.dtype) == (4, 1, torch.int16)
    rows = [(pair.src, ref) for pair in PAIRS for ref in pair.refs]
    batch = data.gather(torch.tensor([3, 1, 1, 0]))
    assert batch.ids.dtype == torch.int64
    assert batch.index.tolist() == [3, 1, 1, 0]
    for ids, mask, index in zip(batch.ids.tolist(), batch.mask.tolist(), [3, 1, 1, 0], strict=True):
        src, trg = map(tokenizer.encode, rows[index])
        assert (ids, [int(m) for m in mask]) == merge_pair(src, trg, 14, tokenizer.sep_id, tokenizer.pad_id)


def test_encoding_refuses_what_is_too_long_or_empty(tokenizer: Tokenizer) -> None:
    assert Rows.of_pairs(PAIRS, tokenizer, 18, "refuse").n_truncated == 0
    with pytest.raises(UserError, match=r"^train: pair 3: 10 source and 7 target ids"):
        Rows.of_pairs(PAIRS, tokenizer, 17, "refuse", "train")
    with pytest.raises(UserError, match=r"^train: no pairs"):
        Rows.of_pairs([], tokenizer, 17, name="train")


@given(TEXT, st.integers(3, 40))
def test_a_text_alone_begins_and_ends_with_its_marks(ids: list[int], seq_len: int) -> None:
    row = padded_text(ids, seq_len, SEP, PAD)
    assert len(row) == seq_len
    kept = row[: row.index(SEP) + 1]
    assert kept == ids if len(ids) <= seq_len else kept == [*ids[: seq_len - 1], SEP]
    assert set(row[len(kept) :]) <= {PAD}


@given(st.lists(TEXT, max_size=8), st.integers(3, 20))
def test_packed_rows_hold_all_texts_in_their_order(texts: list[list[int]], seq_len: int) -> None:
    rows = list(packed_texts(texts, seq_len, CLS, SEP))
    assert [token for row in rows for token in row[1:-1]] == [token for ids in texts for token in ids[1:]]
    assert all(row[0] == CLS and row[-1] == SEP for row in rows)
    assert all(len(row) == seq_len for row in rows[:-1]) and all(3 <= len(row) <= seq_len for row in rows)


def test_texts_become_rows_that_are_generated_whole(tokenizer: Tokenizer) -> None:
    texts = ["a b c", "d", "e e e e e e e e"]
    padded_rows = Rows.padded(texts, tokenizer, 8)
    assert (len(padded_rows), padded_rows.n_truncated, padded_rows.ids.dtype) == (3, 1, torch.int16)
    assert tokenizer.decode_batch(padded_rows.ids) == ["a b c", "d", "e e e e e e"]
    packed = Rows.packed(texts, tokenizer, 8)
    a, b, c, d, e = (tokenizer.encode(word)[1] for word in "abcde")
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert packed.ids.tolist() == [
        [cls, a, b, c, sep, d, sep, sep],
        [cls, e, e, e, e, e, e, sep],
    ]  # "e e [SEP]" is left
    full, short = Rows.packed_to_the_end(texts, tokenizer, 8)
    assert torch.equal(full.ids, packed.ids)
    assert short.ids.tolist() == [[cls, e, e, sep, sep]]
    assert [len(rows) for rows in Rows.packed_to_the_end(texts[:2], tokenizer, 8)] == [1]
    for rows in (padded_rows, packed, short):
        assert rows.mask.all() and rows.mask.shape == rows.ids.shape
        assert torch.equal(rows.gather(torch.tensor([len(rows) - 1])).ids, rows.ids[-1:].long())


def test_texts_that_make_no_row_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"^train: text 2: 5 ids, but only 4 fit a sequence of 4"):
        Rows.padded(["a", "a b c"], tokenizer, 4, "refuse", "train")
    with pytest.raises(UserError, match=r"^train: no texts"):
        Rows.padded([], tokenizer, 8, name="train")
    with pytest.raises(UserError, match=r"^train: all texts together do not fill one row of 16 ids"):
        Rows.packed(["a b c", "d"], tokenizer, 16, "train")
    with pytest.raises(UserError, match="a sequence of 2 ids cannot hold a text"):
        Rows.packed(["a"], tokenizer, 2)


SEEDS = st.integers(0, 2**40)


@given(st.integers(1, 200), SEEDS, st.integers(0, 50))
def test_an_epoch_is_a_permutation_and_a_pure_function(n: int, seed: int, epoch: int) -> None:
    torch.manual_seed(seed % 7)
    order = epoch_order(n, seed, epoch)
    assert sorted(order.tolist()) == list(range(n))
    state = torch.get_rng_state()
    again = epoch_order(n, seed, epoch)
    assert torch.equal(order, again)
    assert torch.equal(state, torch.get_rng_state())
    order.zero_()  # the caller may do with it what he likes
    assert torch.equal(again, epoch_order(n, seed, epoch))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(st.integers(1, 40), st.integers(1, 50), SEEDS, st.integers(1, 12))
def test_batches_are_the_epochs_in_a_row(n: int, batch_size: int, seed: int, steps: int) -> None:
    stream = torch.cat([batch_indices(n, batch_size, step, seed) for step in range(steps)])
    epochs = torch.cat([epoch_order(n, seed, epoch) for epoch in range(len(stream) // n + 1)])
    assert len(stream) == steps * batch_size
    assert torch.equal(stream, epochs[: len(stream)])


def test_a_source_that_is_dropped_leaves_padding_of_its_length() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 1], [5, 6, 7, 8, 9, 1], [5, 6, 7, 8, 9, 1]])
    mask = torch.arange(6) >= torch.tensor([2, 3, 6])[:, None]
    found = without_source(ids, mask, torch.tensor([True, False, True]), pad_id=1)
    assert found.tolist() == [[1, 1, 7, 8, 9, 1], [5, 6, 7, 8, 9, 1], [1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(("n", "batch_size", "step"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_batches_that_cannot_be(n: int, batch_size: int, step: int) -> None:
    with pytest.raises(ValueError, match="need n >= 1"):
        batch_indices(n, batch_size, step, 0)
