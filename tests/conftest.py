"""Set up every test: threads, caches, no network, and what tests of compiled code need.

dlkit is not imported here at the top, because the shape checks must be in place first.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path

# Before torch is imported: OpenMP threads that wait for each other on shared cores stall for tens of milliseconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "inductor"))

import hypothesis
import jaxtyping
import pytest

import shapecheck

# The first call of anything in torch is slow, and any call is on a busy core: a deadline would test the machine.
hypothesis.settings.register_profile("dlkit", deadline=None)
hypothesis.settings.load_profile("dlkit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        default=str(Path(__file__).parent / "golden"),
        metavar="DIR",
        help="cases recorded from the original codebases, for tests/parity",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compiling warns of torch's own affairs; elsewhere a warning is an error."""
    for item in items:
        if item.get_closest_marker("compile"):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    shapecheck.begin()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """What fixtures did is not counted against the test."""
    if not item.get_closest_marker("compile"):
        shapecheck.begin()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``dlkit``; exit code, standard output and standard error."""
    from command_line import caller

    return caller(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def _compile_marker(request: pytest.FixtureRequest) -> Iterator[None]:
    """For tests marked ``compile``: checked functions break the graph, so the shape checks rest meanwhile."""
    if not request.node.get_closest_marker("compile"):
        yield
        return
    _need_compiler()
    jaxtyping.config.update("jaxtyping_disable", True)
    with pytest.MonkeyPatch.context() as patch:
        for made in _dataclasses():  # of an object that it makes itself a graph cannot read wrapped methods at all
            for name, method in list(vars(made).items()):
                if inspect.isfunction(method) and hasattr(method, "__wrapped__"):
                    patch.setattr(made, name, method.__wrapped__)
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _dataclasses() -> set[type]:
    """Those of dlkit, as far as they are imported."""
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "dlkit"]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return {each for each in classes if is_dataclass(each)}


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("no C++ compiler")
