"""Coroutines for callers that are none: in a thread with a loop of its own, whether the caller is in one or not."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from lodestream._guard import log

T = TypeVar("T")


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

    threading.Thread(target=run, name="lodestream-experiment", daemon=True).start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        if outcome.done():
            raise
        stop()
        log.warning("stopping: no item is begun any more, those that run come to their end; Ctrl-C again leaves them")
    return outcome.result()
