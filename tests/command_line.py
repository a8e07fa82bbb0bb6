"""``dlkit`` as a user calls it, within this process."""

import sys
from collections.abc import Callable

import pytest

from dlkit import cli

Command = Callable[..., tuple[int, str, str]]
"""Run ``dlkit``; exit code, standard output and standard error."""


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dlkit", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return call


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one line on standard error and nothing else."""
    code, out, err = result
    assert (code, out) == (2, ""), result
    assert err.startswith("dlkit: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err
