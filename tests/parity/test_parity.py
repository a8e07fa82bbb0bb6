"""Every recorded case is repeated: ``pytest tests/parity --golden DIR``; the default is ``tests/golden``."""

import json
import shutil
from pathlib import Path

import pytest

from parity.cases import Case, cases, checker


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        found = cases(Path(metafunc.config.getoption("--golden")))
        metafunc.parametrize("case", found, ids=[case.name for case in found])


def test_there_are_cases(request: pytest.FixtureRequest) -> None:
    root = Path(request.config.getoption("--golden"))
    assert cases(root), f"no meta.json below {root}"


def test_case(case: Case) -> None:
    checker(case)(case)


def test_the_clock_of_a_case_is_its_own(tmp_path: Path) -> None:
    """Half of a warm-up of another length is the same share."""
    golden = Path(__file__).parents[1] / "golden/plaid"
    shutil.copytree(golden / "vlb_train_step2500", tmp_path / "case")
    meta = json.loads((tmp_path / "case/meta.json").read_text())
    meta["config"].update(step=500, bias_warmup_steps=1000, weights=f"{golden / 'weights'}/{{model}}.safetensors")
    (tmp_path / "case/meta.json").write_text(json.dumps(meta))
    (case,) = cases(tmp_path)
    checker(case)(case)


def test_an_unknown_kind_fails(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"system": "diffuseq", "case": "telepathy", "config": {}}))
    (found,) = cases(tmp_path)
    with pytest.raises(LookupError, match="no check for 'diffuseq/telepathy'"):
        checker(found)
