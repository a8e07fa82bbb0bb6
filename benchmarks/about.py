"""What must be known of a run besides its numbers."""

import datetime
import platform
from typing import Any

import torch

from benchmarks.measure import has_bf16, name_of
from dlkit import __version__


def about(device: torch.device, command: str) -> dict[str, Any]:
    """Device, date, command, versions and threads."""
    return {
        "device": name_of(device),
        "kind": device.type,
        "bf16": has_bf16(device),
        "threads": torch.get_num_threads(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "versions": {"dlkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
