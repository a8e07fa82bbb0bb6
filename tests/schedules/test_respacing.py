"""Respacing strings: what they keep, and what they cannot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.errors import UserError
from dlkit.schedules._respacing import kept_by, space_timesteps
from dlkit.schedules.sqrt import SqrtSchedule

few = settings(max_examples=100)


@few
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), data=st.data())
def test_sections(sizes: list[int], data: st.DataObject) -> None:
    steps = max(sizes) * len(sizes) + data.draw(st.integers(0, 9))
    spec = ",".join(map(str, sizes))
    kept = space_timesteps(steps, spec)
    assert kept == sorted(set(kept))
    assert kept[0] >= 0
    assert kept[-1] < steps
    assert len(kept) == sum(sizes) == kept_by(spec)
    if len(sizes) == 1 and sizes[0] > 1:
        assert (kept[0], kept[-1]) == (0, steps - 1)


@few
@given(steps=st.integers(2, 3000), count=st.integers(2, 300))
def test_strides(steps: int, count: int) -> None:
    possible = {len(range(0, steps, stride)): stride for stride in range(steps - 1, 0, -1)}
    if count in possible:
        assert space_timesteps(steps, f"ddim{count}") == list(range(0, steps, possible[count]))
    else:
        with pytest.raises(UserError, match="no whole stride"):
            space_timesteps(steps, f"ddim{count}")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("ddim", "neither 'even', nor 'ddimN'"),
        ("ddim1", "no whole stride"),
        ("4,x", "neither 'even', nor 'ddimN'"),
        ("", "neither 'even', nor 'ddimN'"),
        ("2,11,2", "section 2 has 7 steps, fewer than 11"),
    ],
)
def test_mistakes(spec: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        space_timesteps(20, spec)
    assert "\n" not in str(error.value)


def test_half_strides_are_rounded_to_even() -> None:
    assert space_timesteps(10, "3,3,3") == [0, 2, 3, 4, 5, 6, 7, 8, 9]  # 1.5 -> 2 in the first section
    assert space_timesteps(6, "3") == [0, 2, 5]  # 2.5 -> 2


def test_times_fall() -> None:
    assert SqrtSchedule(steps=20).respaced("ddim5") == [17 / 20, 13 / 20, 9 / 20, 5 / 20, 1 / 20]
