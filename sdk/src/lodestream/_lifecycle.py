"""The process ends: what our parts do then."""

import atexit
import contextlib
import os
import sys
import weakref
from typing import Any, Protocol

EXIT_SECONDS = 5.0
"""What delivering may take of a process's end. What is not delivered then stays in the spool."""


class Closable(Protocol):
    """Delivers what it can within some seconds."""

    def close(self, timeout: float, /) -> Any: ...


_closables: "weakref.WeakSet[Any]" = weakref.WeakSet()


def close_with_process(closable: Closable) -> None:
    """Close it when the process ends.

    Children that multiprocessing forked end without running atexit's functions, but with those it knows itself.
    """
    _closables.add(closable)
    if (module := sys.modules.get("multiprocessing.util")) is not None:
        module.Finalize(None, closable.close, args=(EXIT_SECONDS,), exitpriority=100)


@atexit.register
def _close_all() -> None:
    for closable in list(_closables):
        with contextlib.suppress(Exception):
            closable.close(EXIT_SECONDS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_closables.clear)
