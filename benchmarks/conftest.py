"""The fixtures of the benchmarks, and what a run leaves behind."""

import datetime
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import results
from benchmarks.measure import has_bf16, limits, name_of
from benchmarks.versus import Versus
from dlkit import __version__

HERE = Path(__file__).parent
RUN = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dlkit")
    group.addoption("--quick", action="store_true", help="small sizes and few rounds; 70 % of a bar is enough")
    group.addoption("--json", metavar="FILE", help="where to write the run")
    group.addoption("--device", default="cpu", help="cpu (default) or cuda; bars are for CPUs, others are reported")


def pytest_configure(config: pytest.Config) -> None:
    if config.rootpath != HERE:
        raise pytest.UsageError("run the benchmarks alone, by `pytest benchmarks/`: their settings are not the tests'")
    if config.getoption("--device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: there is none; leave it out to run on the CPU")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = [Path(argument.partition("::")[0]) for argument in config.args]
    config.stash[RUN] = {
        "complete": all(path.resolve() == HERE for path in named) and not config.option.keyword,
        "quick": config.getoption("--quick"),
    }


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where to run: ``--device``."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether a minute must be enough for the whole suite."""
    return request.config.getoption("--quick")


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, device: torch.device) -> dict[str, Any]:
    """What the run is written as; its rows come in one by one."""
    found = request.config.stash[RUN]
    found |= {
        "device": name_of(device),
        "kind": device.type,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["pytest", *sys.argv[1:]]),
        "versions": {"dlkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "bf16": has_bf16(device),
        "limits": asdict(limits(device)),
        "rows": [],
    }
    return found


@pytest.fixture
def versus(benchmark: Any, run: dict[str, Any], quick: bool, device: torch.device) -> Versus:
    """Measure ours beside a reference; see :class:`Versus`."""
    return Versus(benchmark, run, quick, device)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    found = config.stash.get(RUN, {})
    if not found.get("rows"):
        return
    broken = [report for report in terminalreporter.stats.get("error", []) + terminalreporter.stats.get("failed", [])]
    found["complete"] = found["complete"] and len(broken) == sum(row["missed"] for row in found["rows"])
    terminalreporter.section("dlkit")
    terminalreporter.write_line(results.text_table(found, results.stored().get(found["device"])))
    if config.getoption("--json"):
        results.write_run(config.getoption("--json"), found)
