"""The fixtures of the benchmarks, and what a run leaves behind."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import results
from benchmarks.about import about
from benchmarks.measure import Limits, faster, limits
from benchmarks.versus import Versus, share_limits
from dlkit.errors import UserError

HERE = Path(__file__).parent
RUN = pytest.StashKey[dict[str, Any]]()
BROKEN = pytest.StashKey[bool]()
COLLECTED = pytest.StashKey[int]()
BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dlkit")
    group.addoption("--quick", action="store_true", help="small sizes and few rounds; 70 % of a bar is enough")
    group.addoption("--json", metavar="FILE", help="where to write the run")
    group.addoption("--device", default="cpu", choices=["cpu", "cuda"], help="bars are for CPUs; a GPU's are only told")


def pytest_configure(config: pytest.Config) -> None:
    if config.rootpath != HERE:
        raise pytest.UsageError("run the benchmarks alone, by `pytest benchmarks/`: their settings are not the tests'")
    if config.getoption("benchmark_disable") or config.getoption("numprocesses", None):
        raise pytest.UsageError("the benchmarks measure, one at a time: leave out --benchmark-disable and -n")
    if config.getoption("--device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: there is none; leave it out to run on the CPU")
    file = config.getoption("--json")
    if file and (Path(file).is_dir() or not Path(file).absolute().parent.is_dir()):
        raise pytest.UsageError(f"--json {file}: give a file in a folder that exists")


def pytest_collection_finish(session: pytest.Session) -> None:
    """A run is whole if every benchmark of the folder is in it."""
    config = session.config
    everything = all(Path(argument).resolve() == HERE for argument in config.args)
    narrowing = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise")
    chosen = any(getattr(config.option, name, None) for name in narrowing)
    config.stash[RUN] = {"complete": everything and not chosen, "quick": config.getoption("--quick"), "rows": []}
    config.stash[COLLECTED] = len(session.items)
    config.stash[BEGUN] = time.monotonic()


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where to run: ``--device``."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether a minute must be enough for the whole suite."""
    return request.config.getoption("--quick")


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, device: torch.device, quick: bool) -> dict[str, Any]:
    """What the run is written as; its rows come in one by one."""
    command = " ".join(["pytest benchmarks/", *["--quick"] * quick, *["--device cuda"] * (device.type == "cuda")])
    found = request.config.stash[RUN]
    found |= about(device, command) | {"limits": asdict(limits(device, rounds=2 if quick else 5))}
    return found


@pytest.fixture
def versus(benchmark: Any, run: dict[str, Any], quick: bool, device: torch.device) -> Versus:
    """Measure ours beside a reference; see :class:`benchmarks.versus.Versus`."""
    return Versus(benchmark, run, quick, device)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """A test fails once all its rows are there, if one of them misses its bar."""
    try:
        result = yield
    except (Exception, pytest.fail.Exception):
        pyfuncitem.config.stash[BROKEN] = True
        raise
    if "versus" in pyfuncitem.funcargs and pyfuncitem.funcargs["versus"].missed:
        pytest.fail("\n".join(pyfuncitem.funcargs["versus"].missed), pytrace=False)
    return result


def write(run: dict[str, Any], config: pytest.Config) -> None:
    """Write the run where ``--json`` says, each row beside the limits measured so far."""
    share_limits(run["rows"], Limits(**run["limits"]))
    if config.getoption("--json"):
        results.write_run(config.getoption("--json"), run)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    run = config.stash.get(RUN, {})
    if not run.get("rows"):
        return
    broken = config.stash.get(BROKEN, False) or "error" in terminalreporter.stats
    done = sum(len(terminalreporter.stats.get(outcome, ())) for outcome in ("passed", "failed", "skipped"))
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and done == config.stash[COLLECTED]
    run |= {"complete": run["complete"] and ended and not broken, "seconds": time.monotonic() - config.stash[BEGUN]}
    write(run, config)
    if ended and not run["quick"]:  # what else a machine does, at the beginning or now, only adds
        again = limits(torch.device(config.getoption("--device")))
        run["limits"] = asdict(faster(Limits(**run["limits"]), again))
        write(run, config)
    terminalreporter.section("dlkit")
    try:
        before = results.stored()["runs"].get(run["device"])
    except UserError as error:  # kept runs that cannot be read are no reason to lose this one
        terminalreporter.write_line(f"benchmarks: {error}")
        before = None
    terminalreporter.write_line(results.text_table(run, before))
