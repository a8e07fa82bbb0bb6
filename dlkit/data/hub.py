"""Names on the model hub."""

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
SECONDS = 10.0


def from_hub(name: str, load: Callable[..., _T]) -> _T:
    """What ``load(name, local_files_only=...)`` reads: of the local cache, or else of the hub, which is asked once.

    The libraries would ask again and again, and tell of each time, most of a minute long, where nobody answers.
    Whatever they and the hub raise passes through.
    """
    from huggingface_hub import model_info

    try:
        return load(name, local_files_only=True)
    except (OSError, ValueError):
        model_info(name, timeout=SECONDS)
    return load(name, local_files_only=False)
