"""Noise that is one of a fixed number of draws."""

import torch

from dlkit.diffusion.codes import one_of
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
