"""The process ends: what our parts do then."""

import atexit
import contextlib
import os
import sys
import threading
import weakref
from typing import Any, Protocol

EXIT_SECONDS = 5.0
"""What delivering may take of a process's end. What is not delivered then stays in the spool."""


_closables: "weakref.WeakSet[Any]" = weakref.WeakSet()
_closed = False


def is_ending() -> bool:
    """Whether the interpreter ends, and what was to be closed at its end has been."""
    return _closed or sys.is_finalizing()


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    Raises RuntimeError where none can be started: there are too many, or the interpreter is ending. Before Python 3.12
    `Thread.start` does not raise then but waits for ever, for a thread that never gets to run.
    """
    if is_ending():
        raise RuntimeError("the interpreter is ending")
    thread.start()


def never_starts_threads() -> bool:
    """Whether a thread that could not be started can't be later either: from Python 3.12 on when main has ended."""
    return is_ending() or not threading.main_thread().is_alive()


class Closable(Protocol):
    """Does what is left to do at the end of the process, within some seconds."""

    def close_at_exit(self, timeout: float, /) -> Any: ...


def close_with_process(closable: Closable) -> None:
    """Close it when the process ends.

    Children that multiprocessing forked end without running atexit's functions, but with those it knows itself.
    """
    _closables.add(closable)
    if (module := sys.modules.get("multiprocessing.util")) is not None:
        module.Finalize(None, closable.close_at_exit, args=(EXIT_SECONDS,), exitpriority=100)


@atexit.register
def _close_all() -> None:
    global _closed  # noqa: PLW0603 - one process, one state
    for closable in list(_closables):
        with contextlib.suppress(Exception):
            closable.close_at_exit(EXIT_SECONDS)
    _closed = True


def _renew() -> None:
    """In the child of a fork, which begins anew."""
    global _closed  # noqa: PLW0603 - one process, one state
    _closed = False
    _closables.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
