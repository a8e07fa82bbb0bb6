"""Cost as work grows."""

import math
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import Item, Point, curve, exponent


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    assert exponent([(1.0, 3.0), (2.0, 12.0), (4.0, 48.0)]) == pytest.approx(2.0)
    assert math.isnan(exponent([(1.0, 3.0)]))


def test_points_that_would_take_too_long_are_left_out_and_named() -> None:
    measured: list[int] = []

    def quadratic(item: Item, point: Point) -> float:
        measured.append(point.length)
        return point.length**2 / 1000

    found = curve(Item("squares", lambda point, folder: print), "length", quadratic)
    assert measured == [64, 16, 32]  # the base point first; 128 is predicted to take 16 s
    assert found.exponent == pytest.approx(2.0)
    assert [size for size, _ in found.measured] == [16, 32, 64]
    assert [size for size, _ in found.skipped] == [128, 256]
    assert [cost for _, cost in found.skipped] == pytest.approx([128**2 / 1000, 256**2 / 1000])


@pytest.mark.parametrize("item", scaling.ITEMS, ids=lambda item: item.name)
def test_every_item_can_be_done(item: Item, tmp_path: Path) -> None:
    work = item.make(Point(batch=2, length=16, vocab=64, model="BERT-tiny"), tmp_path)
    work()
    work()


def test_a_models_size_is_that_of_its_layers() -> None:
    assert Point(model="BERT-base").size("model") == 12 * (4 * 768**2 + 2 * 768 * 3072)
