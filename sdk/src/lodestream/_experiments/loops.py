"""Coroutines for callers that are none: in a thread with a loop of its own, whether the caller is in one or not."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from lodestream._diagnostics import log
from lodestream._lifecycle import start_thread

T = TypeVar("T")
_SIGNAL_CHECK_SECONDS = 0.2


def run_apart(begin: Callable[[], Coroutine[Any, Any, T]], *, stop: Callable[[], None]) -> T:
    """The coroutine's result. The first Ctrl-C calls `stop` and waits on, the second leaves at once."""
    outcome: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(asyncio.run, begin())
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    start_thread(threading.Thread(target=run, name="lodestream-experiment", daemon=True))
    try:
        return _await(outcome)
    except KeyboardInterrupt:
        if outcome.done():
            raise
        stop()
        log.warning("stopping: no item is begun any more, those that run come to their end; Ctrl-C again leaves them")
    return _await(outcome)


def _await(outcome: Future[T]) -> T:
    """Wait for the result in short waits, each of which lets Python run the handlers of signals.

    A signal that another thread receives, or that arrives just before the main thread sleeps on a lock, does not wake
    the main thread: a wait without a limit would then outlast a Ctrl-C (docs.python.org/3/library/signal.html).
    """
    while not wait((outcome,), _SIGNAL_CHECK_SECONDS).done:
        pass
    return outcome.result()
