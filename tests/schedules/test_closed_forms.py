"""The schedules of the literature against the formulas of their papers, by hand."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from dlkit import schedules
from dlkit.diffusion.processes.gaussian import GaussianProcess
from dlkit.errors import UserError
from dlkit.part import from_spec
from dlkit.schedules.geometric import GeometricSchedule
from dlkit.schedules.karras import KarrasSchedule
from dlkit.schedules.linear import LinearSchedule
from dlkit.schedules.log_linear import LogLinearSchedule
from dlkit.schedules.per_position import PerPositionSchedule
from dlkit.schedules.rectified_flow import RectifiedFlowSchedule
from dlkit.schedules.tan import TanSchedule
from dlkit.schedules.trig import TrigSchedule
from schedules.every import at

TIMES = at(0.01, 0.2, 0.5, 0.77, 0.99)
ROWS = [[0.9, 0.8], [0.5, 0.6], [0.1, 0.01]]


@pytest.mark.parametrize("n", [2, 5, 18])
def test_evenly_spaced_times_are_the_noise_levels_of_edm(n: int) -> None:
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    wanted = [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)]
    found = KarrasSchedule().sigma(at(*KarrasSchedule().even(n)))
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)


def test_the_clock_of_edm() -> None:
    part = KarrasSchedule(sigma_max=50.0, sigma_min=0.01, rho=3.0)
    assert_close(part.network_time(TIMES), part.sigma(TIMES).log() / 4)


@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_the_geometric_sequence(steps: int) -> None:
    part = GeometricSchedule(steps=steps)
    ratio = (50 / 0.01) ** (1 / (steps - 1))
    wanted = [0.01 * ratio**i for i in range(steps)]
    assert part.sigma(part.time_of(torch.arange(steps))).tolist() == pytest.approx(wanted, rel=1e-10)
    assert part.sigma(at(0.5 / steps)).item() == pytest.approx(0.005)


def test_tan_is_its_formula_and_trig_is_tan_1() -> None:
    tangent = (math.pi / 2 * TIMES).tan()
    assert_close(TanSchedule().alpha(TIMES), (1 + 81 * tangent.square()).rsqrt())
    assert_close(TanSchedule(d=3.0).log_snr(TIMES), TrigSchedule().log_snr(TIMES) - 2 * math.log(3))
    for name in ("alpha", "sigma", "d_alpha", "d_sigma", "log_snr", "network_time"):
        assert_close(getattr(TanSchedule(d=1.0), name)(TIMES), getattr(TrigSchedule(), name)(TIMES))


def test_the_straight_way_and_its_shift() -> None:
    assert torch.equal(RectifiedFlowSchedule().alpha(TIMES), 1 - TIMES)
    assert_close(RectifiedFlowSchedule().sigma(TIMES), TIMES, rtol=1e-15, atol=0)
    straight, shifted = RectifiedFlowSchedule(), RectifiedFlowSchedule(shift=5.0)
    assert shifted.sigma(at(0.5)).item() == pytest.approx(5 / 6)
    assert_close(shifted.log_snr(TIMES), straight.log_snr(TIMES) - 2 * math.log(5))
    assert_close(shifted.network_time(TIMES), straight.network_time(shifted.sigma(TIMES)))


def test_the_total_noise_is_log_linear() -> None:
    part = LogLinearSchedule(eps=0.01)
    total = -torch.log1p(-0.99 * TIMES)
    assert_close(part.alpha(TIMES).square(), torch.exp(-total))
    assert_close(part.network_time(TIMES), total)


def test_a_table_of_equal_columns_is_the_schedule_of_its_column() -> None:
    one = LinearSchedule(steps=50)
    column = one.alpha_bar(one.time_of(torch.arange(50)))
    many = PerPositionSchedule.model_validate({"table": column[:, None].expand(50, 3).tolist()})
    for name in ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma"):
        assert_close(getattr(many, name)(TIMES), getattr(one, name)(TIMES)[:, None].expand(5, 3))
    assert_close(many.network_time(TIMES), one.network_time(TIMES))


def test_each_position_has_its_own_noise() -> None:
    part = PerPositionSchedule.model_validate({"table": ROWS})
    t = at(0.0, 1 / 6, 1 / 3, 0.5, 1.0)
    wanted = torch.tensor([[1.0, 1.0], [0.95, 0.9], [0.9, 0.8], [0.7, 0.7], [0.1, 0.01]]).double()
    assert_close(part.alpha_bar(t), wanted)
    assert (part.steps, part.positions, part.t_min) == (3, 2, 1 / 3)
    x = torch.ones(5, 2, 4).double()
    assert_close(GaussianProcess.model_validate({"schedule": part}).q_sample(x, t, 0 * x)[..., 0], wanted.sqrt())
    shape = part.log_snr(t.reshape(5, 1)).shape
    assert shape == (5, 1, 2)
    assert part.inverse(part.log_snr(t.reshape(5, 1))).shape == shape


@pytest.mark.parametrize("suffix", ["json", "safetensors", "npy"])
def test_a_table_from_a_file(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"table.{suffix}"
    if suffix == "json":
        file.write_text(json.dumps(ROWS))
    elif suffix == "npy":
        np.save(file, np.array(ROWS))
    else:
        save_file({"alpha_bar": torch.tensor(ROWS, dtype=torch.float64)}, file)
    part = from_spec(schedules.registry, {"name": "per_position", "file": str(file)})
    file.unlink()
    again = from_spec(schedules.registry, json.loads(json.dumps(part.spec())))
    assert part == again == from_spec(schedules.registry, {"name": "per_position", "table": ROWS})
    assert (part.file, again.table) == (None, tuple(map(tuple, ROWS)))
    assert hash(part) == hash(again)
    assert part.spec()["table"] == ["0.9 0.8", "0.5 0.6", "0.1 0.01"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "give either table, the rows of alpha_bar, or file"),
        ({"table": ROWS, "file": "x.json"}, "give either table"),
        ({"table": [[0.9], [0.95]]}, "row 1 of the table, position 0, has 0.95 after 0.9; alpha_bar must fall"),
        ({"table": [[0.9], [0.9]]}, "alpha_bar must fall"),
        ({"table": [[1.0], [0.9]]}, "row 0 of the table, position 0, has 1.0 after 1; alpha_bar must fall"),
        ({"table": [[0.9], [0.0]]}, "row 1 .* between 1 and 0"),
        ({"table": [[0.9, 0.8], [0.5]]}, "the rows of the table have 1 to 2 numbers"),
        ({"table": [[], []]}, "the rows of the table have 0 to 0 numbers"),
        ({"table": [[0.9]]}, "steps"),
        ({"table": []}, "steps"),
        ({"table": ROWS, "steps": 7}, "steps=7 contradicts the table, which has 3 rows"),
        ({"table": [["a"], ["b"]]}, "table"),
        ({"table": 3}, "table"),
        ({"file": 5}, "file: give the name of the file that holds the table, not 5"),
        ({"file": ["a.json"]}, "file: give the name of the file"),
        ({"file": "missing.json"}, "missing.json is missing; give the file"),
        ({"file": "table.txt"}, "table.txt: a table is read from .json, .safetensors, .npy files"),
    ],
)
def test_tables_that_are_none(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        from_spec(schedules.registry, {"name": "per_position", **settings})


def saved(save: Callable[..., None], numbers: list[Any]) -> bytes:
    """The bytes of an array file."""
    file = io.BytesIO()
    save(file, np.array(numbers))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"[[1, 2", "is damaged"),
        ("a.json", b'{"rows": 3}', "holds no table"),
        ("a.json", b"[0.9, 0.8]", "holds no table"),
        ("a.safetensors", b"nonsense", "is damaged"),
        ("a.npy", b"nonsense", "is damaged"),
        ("a.npy", b"", "is damaged"),
        ("a.npy", saved(np.savez, [[0.9]]), "holds no array of real numbers"),
        ("a.npy", saved(np.save, [[0.9 + 1j]]), "holds no array of real numbers"),
    ],
)
def test_files_that_hold_no_table(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        from_spec(schedules.registry, {"name": "per_position", "file": str(tmp_path / name)})
    assert "\n" not in str(error.value)


def test_a_file_of_several_tables(tmp_path: Path) -> None:
    save_file({name: torch.tensor(ROWS) for name in ("a", "b")}, tmp_path / "t.safetensors")
    with pytest.raises(UserError, match="holds 2 tensors; the table must be the only one"):
        from_spec(schedules.registry, {"name": "per_position", "file": str(tmp_path / "t.safetensors")})


@pytest.mark.parametrize("name", ["karras", "geometric"])
def test_noise_levels_in_the_wrong_order(name: str) -> None:
    with pytest.raises(UserError, match=r"sigma_min=5\.0 is not below sigma_max=1\.0"):
        from_spec(schedules.registry, {"name": name, "sigma_min": 5.0, "sigma_max": 1.0})
