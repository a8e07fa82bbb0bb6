"""Memory: how much there is, and keeping what a training step frees and the next one wants again."""

import ctypes
import os
import sys

import torch

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def keep_freed_memory() -> bool:
    """Tell glibc not to hand large blocks back to the system.

    A step on the CPU allocates and frees the same large tensors again and again; by default each goes through mmap and
    munmap, and every page of it is faulted in anew. The setting holds for the whole process, so a program asks for it,
    never an import.

    Returns:
        whether it could be done: only on Linux with glibc.
    """
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20})


def hand_back_freed_memory(now: bool = True) -> bool:
    """The opposite of :func:`keep_freed_memory`: what glibc does by itself once large blocks have come and gone.

    Blocks of 32 MB or more are mapped anew each time, and of what lies free at the end of the heap 64 MB stay.

    Args:
        now: whether all that lies free already is handed back as well.

    Returns:
        whether it could be done.
    """
    settings = {_M_MMAP_MAX: 65_536, _M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20, _M_TOP_PAD: 2**17}
    return _set(settings) and (not now or ctypes.CDLL(None).malloc_trim(0) >= 0)


def _set(settings: dict[int, int]) -> bool:
    """Set parameters of glibc's allocator; False on another system or with another C library."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings.items())


def total_memory(device: torch.device) -> int | None:
    """Bytes that a device has in all; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system, or one that does not say
        return None
