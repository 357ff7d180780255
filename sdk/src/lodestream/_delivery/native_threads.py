"""The threads that gRPC runs beneath Python: without a channel they end, but not at once."""

import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
_NAMES = ("grpc", "event_engine", "lifeguard")


def await_none(seconds: float) -> bool | None:
    """Wait until there are none, and tell whether that came to be. None where it can't be known: only Linux tells."""
    if not _TASKS.exists():
        return None
    end = time.monotonic() + seconds
    while any_left():
        if time.monotonic() >= end:
            return False
        time.sleep(0.0005)
    return True


def any_left() -> bool:
    """Whether a thread has a name of gRPC's."""
    return any(_name(task).startswith(_NAMES) for task in _TASKS.iterdir())


def _name(task: Path) -> str:
    try:
        return (task / "comm").read_text()
    except OSError:  # it has just ended
        return ""
