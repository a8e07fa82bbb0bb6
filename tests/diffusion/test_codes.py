"""Noise that is one of a fixed number of draws."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from dlkit.diffusion.codes import choosing, one_of, taken_in_turn
from dlkit.randomness import Stream

COUNT = 4000


def normals(count: int = COUNT, seed: int = 3) -> torch.Tensor:
    return Stream(seed, "test").normal(torch.arange(count), 3, 2)


def test_without_codes_noise_stays_as_it_is() -> None:
    z = normals(5)
    assert one_of(z, None, 0) is z


def test_every_code_is_as_likely_as_another() -> None:
    """Counts of 8 codes among 4,000 draws: chi squared with 7 degrees of freedom is below 30 but once in 10,000."""
    codes, counts = one_of(normals(), 8, 0).flatten(1).unique(dim=0, return_counts=True)
    assert len(codes) == 8
    assert float(((counts - COUNT / 8) ** 2 / (COUNT / 8)).sum()) < 30


def test_codes_are_draws_of_the_prior() -> None:
    """Mean 0 and variance 1 over 6,000 numbers, within five standard errors."""
    codes = one_of(normals(), 1000, 0).flatten(1).unique(dim=0)
    assert abs(float(codes.mean())) < 5 * codes.numel() ** -0.5
    assert abs(float(codes.var()) - 1) < 5 * (2 / codes.numel()) ** 0.5


def test_a_code_depends_on_its_seed_and_on_the_first_number_alone() -> None:
    z = normals(50)
    other = z.clone()
    other[:, 1:] = 0
    assert torch.equal(one_of(z, 16, 1), one_of(other, 16, 1))
    assert not torch.equal(one_of(z, 16, 1), one_of(z, 16, 2))


def test_more_codes_begin_with_the_same_ones() -> None:
    few, many = ({tuple(row.tolist()) for row in one_of(normals(), n, 7).flatten(1)} for n in (4, 8))
    assert few < many


def test_the_ends_of_the_normal_fit_too() -> None:
    z = torch.tensor([-40.0, 40.0])[:, None, None].expand(2, 3, 2)
    assert len(one_of(z, 5, 0).flatten(1).unique(dim=0)) == 2


@given(st.integers(1, 2**24), st.data())
def test_a_code_can_be_chosen(codes: int, data: st.DataObject) -> None:
    """The way back: what was chosen is taken, of up to 2^24 codes, and no other number of z is touched."""
    m = torch.tensor([0, codes - 1, data.draw(st.integers(0, codes - 1))])
    z = choosing(normals(3), m, codes)
    assert torch.equal(one_of(z, codes, 4), Stream(4, "codes").normal(m, 3, 2))
    assert torch.equal(z.flatten(1)[:, 1:], normals(3).flatten(1)[:, 1:])


def test_choosing_leaves_what_it_was_given() -> None:
    z = normals(3)
    choosing(z, torch.zeros(3, dtype=torch.int64), 2)
    assert torch.equal(z, normals(3))


@given(st.integers(1, 50), st.integers(1, 120))
def test_codes_are_taken_without_replacement(codes: int, count: int) -> None:
    """No code comes again before all were used."""
    for row in taken_in_turn(torch.arange(4), count, codes, Stream(1, "turn")).tolist():
        for start in range(0, count, codes):
            assert len(set(row[start : start + codes])) == len(row[start : start + codes])


def test_each_sample_alone_has_any_code() -> None:
    """Counts of 8 codes among 4,000 third samples: chi squared with 7 degrees of freedom, as above."""
    counts = taken_in_turn(torch.arange(COUNT), 3, 8, Stream(2, "turn"))[:, 2].bincount(minlength=8)
    assert float(((counts - COUNT / 8) ** 2 / (COUNT / 8)).sum()) < 30
