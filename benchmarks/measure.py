"""Times of two things in turns, bytes alive at once, and what the machine can do at most."""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import torch

Work = Callable[[], object]

CPU = torch.device("cpu")
MOST, MANY, FEW = 51, 7, 3
"""Rounds of a row at most and at least, and of a row whose round takes more than :data:`LONG` seconds."""
LONG = 5.0


@contextlib.contextmanager
def garbage_kept() -> Iterator[None]:
    """Collect now and not again: what exists is set aside, so that :func:`gc.collect` between rounds is quick."""
    was = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was:
            gc.enable()


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Work, device: torch.device = CPU) -> float:
    """How long a call takes."""
    finish(device)
    start = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - start


def rounds_of(asked: int, one_round: float, quick: bool) -> int:
    """How many rounds to measure, where one takes so many seconds.

    As many as fit into two seconds, at most 51; but 7 at least, and as many as are asked for; 3 if a round takes over
    five seconds. If ``quick``, a tenth of these times.
    """
    share = 0.1 if quick else 1.0
    least = FEW if one_round > LONG * share else MANY
    return max(least, 0 if quick else asked, min(MOST, int(2 * share / one_round)))


@dataclass(frozen=True)
class Ratio:
    """What rounds of reference, ours, reference, ours, ... have shown.

    Attributes:
        times: of ours in seconds, one for each round; ``reference_times``: of the reference, already scaled.
    """

    times: list[float]
    reference_times: list[float]

    @property
    def ours(self) -> float:
        """Median time."""
        return statistics.median(self.times)

    @property
    def reference(self) -> float:
        """Median time of the reference."""
        return statistics.median(self.reference_times)

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.reference / self.ours

    @property
    def low(self) -> float:
        """Lower quartile of the ratios of the rounds."""
        return self._quartiles()[0]

    @property
    def high(self) -> float:
        """Upper quartile of the ratios of the rounds."""
        return self._quartiles()[2]

    def _quartiles(self) -> list[float]:
        ratios = [reference / ours for ours, reference in zip(self.times, self.reference_times, strict=True)]
        return statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3


def peak_bytes(work: Work, device: torch.device = CPU, leaves_nothing: bool = False, first: Work | None = None) -> int:
    """The most bytes of tensors alive at once during a call, above those alive at its beginning.

    On a CPU from the profiler's memory events, one for each block that PyTorch's allocator hands out or takes back, so
    that what a fused operation or the backward pass takes and gives back within is seen too. The call is made twice and
    the second counts: the profiler knows only blocks that it has seen made, and the first call leaves behind those
    (gradients, say) that the second gives back; for work that leaves nothing behind the first is left out, and
    ``first`` takes its place where something smaller leaves the same. On a GPU from
    ``torch.cuda.max_memory_allocated``.
    """
    first = first or work
    if device.type == "cuda":
        first()
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not leaves_nothing:
        memory_events(first)
    alive = peak = 0
    for size in memory_events(work):
        alive += size
        peak = max(peak, alive)
    return peak


def memory_events(work: Work) -> list[int]:
    """Bytes of every block made (positive) or given back (negative) during a call, in order."""
    gc.collect()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    results = profile.profiler.kineto_results  # type: ignore[union-attr]
    found = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    return [size for _, size in sorted(found, key=lambda event: event[0])]


@dataclass(frozen=True)
class Limits:
    """What the machine can do, measured.

    Attributes:
        copy: bytes read and written a second by a copy.
        fp32, bf16: floating-point operations a second of a matrix product.
    """

    copy: float
    fp32: float
    bf16: float

    def seconds(self, bytes: float | None, flops: float | None, bf16: bool) -> float | None:
        """The least time for that many bytes moved and operations done: the longer of the two."""
        needed = [bytes and bytes / self.copy, flops and flops / (self.bf16 if bf16 else self.fp32)]
        return max((each for each in needed if each), default=None)


def limits(device: torch.device = CPU, rounds: int = 5) -> Limits:
    """Measure copy and matrix products at sizes past every cache, the best of some rounds each."""
    side, length = (8192, 2**28) if device.type == "cuda" else (2048, 2**26)
    source = torch.zeros(length, device=device)
    target = torch.zeros_like(source)
    rates = [2 * 4 * length / best(lambda: target.copy_(source), device, rounds)]
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        rates.append(2 * side**3 / best(lambda a=a, b=b, out=out: torch.matmul(a, b, out=out), device, rounds))
    return Limits(*rates)


def faster(one: Limits, other: Limits) -> Limits:
    """The higher rate of each kind."""
    return Limits(*map(max, astuple(one), astuple(other)))


def best(work: Work, device: torch.device, rounds: int) -> float:
    """The shortest time of some calls, after one that does not count."""
    work()
    return min(seconds(work, device) for _ in range(rounds))


def has_bf16(device: torch.device = CPU) -> bool:
    """Whether the processor multiplies bf16 itself; where it does not, bf16 ratios are no bars."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool({"avx512_bf16", "amx_bf16"} & set(_cpu_line("flags").split()))


def name_of(device: torch.device = CPU) -> str:
    """The device as its maker calls it, and how much of it is used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    bf16 = "with bf16" if has_bf16() else "without bf16"
    return f"{_cpu_line('model name') or 'CPU'}, {torch.get_num_threads()} threads, {bf16}"


def _cpu_line(key: str) -> str:
    """What ``/proc/cpuinfo`` says of the first core, empty where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
