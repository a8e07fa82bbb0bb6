"""What is told of a loop, and how often."""

import time

import pytest

from dlkit.training.progress import Reporter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the loops see."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_line_now_and_then_and_at_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(every=15.0).loop("teacher samples", 98_560) as loop:
        for done in range(256, 98_560 + 1, 256):
            clock[0] = done / 200
            loop.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "teacher samples 3,072/98,560  200/s  477 s left"
    assert lines[-1] == "teacher samples 98,560/98,560  200/s  0 s left"
    assert len(lines) == 98_560 // 3_072 + 1  # 3,072 take the first multiple of 256 / 200 s that is past 15 s


def test_the_rate_is_of_what_was_done_since_the_start(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(every=0.0).loop("stage 1", 1000, done=400) as loop:
        clock[0] = 10.0
        loop.update(455, "best bleu 0.5")
    assert capsys.readouterr().err == "stage 1 455/1,000  5.5/s  99 s left  best bleu 0.5\n"


def test_a_quiet_reporter_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True, every=0.0)
    with reporter.loop("stage 1", 2) as loop:
        loop.update(1)
        loop.update(2)
    reporter.say("done")
    assert capsys.readouterr() == ("", "")
