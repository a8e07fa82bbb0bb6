"""What a person sees of a run: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Reporter:
    """Shows one loop at a time.

    Args:
        quiet: show nothing.
        every: seconds between plain lines where there is no terminal.
    """

    def __init__(self, quiet: bool = False, every: float = 15.0) -> None:
        self.quiet, self.every = quiet, every
        self.console = Console(stderr=True)
        self._progress: Progress | None = None

    def say(self, text: str) -> None:
        """One line of text."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def loop(self, title: str, total: int, done: int = 0) -> Iterator["Loop"]:
        """Show a loop of ``total`` steps of which ``done`` are behind us."""
        if self.quiet or not self.console.is_terminal:
            yield Loop(self, title, total, done)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, TimeRemainingColumn(), console=self.console) as progress:
            loop = Loop(self, title, total, done)
            loop.bar, loop.task = progress, progress.add_task(title, total=total, completed=done, note="")
            yield loop


class Loop:
    """The steps of one loop."""

    def __init__(self, reporter: Reporter, title: str, total: int, done: int) -> None:
        self.reporter, self.title, self.total, self.first = reporter, title, total, done
        self.start = self.last = time.perf_counter()
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def update(self, done: int, note: str = "") -> None:
        """Tell that ``done`` steps are behind us."""
        now = time.perf_counter()
        rate = (done - self.first) / max(now - self.start, 1e-9)
        speed = f"{rate:.1f}/s" if rate < 100 else f"{rate:,.0f}/s"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, note=f"{speed} {note}")
        elif not self.reporter.quiet and (now - self.last >= self.reporter.every or done == self.total):
            self.last = now
            left = (self.total - done) / max(rate, 1e-9)
            line = f"{self.title} {done:,}/{self.total:,}  {speed}  {left:.0f} s left  {note}"
            print(line.rstrip(), file=sys.stderr, flush=True)
