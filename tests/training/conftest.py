"""The corpus and the teacher that tests of training share."""

from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the built-in grammar."""
    return tiny.corpus(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny teacher."""
    return tiny.run_fit(data, tmp_path_factory.mktemp("tiny") / "fit")
