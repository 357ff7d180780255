"""What goes wrong in here stays in here: it is told by logging, once a minute, and never reaches the host.

In tests that set LODESTREAM_STRICT it is raised instead.
"""

import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

log = logging.getLogger("lodestream")

_QUIET_SECONDS = 60.0
_MAX_SUBJECTS = 1_000
_told: dict[str, float] = {}
P = ParamSpec("P")
R = TypeVar("R")


def log_to_stderr() -> None:
    """All that is done, for LODESTREAM_DEBUG."""
    log.setLevel(logging.DEBUG)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        log.addHandler(handler)


def tell(subject: str, message: str) -> None:
    """Warn, unless the same subject was told within the last minute."""
    if sys.is_finalizing():  # a daemon thread that is gone may hold the lock of a handler for ever
        return
    now = time.monotonic()
    last = _told.get(subject)
    if last is None or now - last >= _QUIET_SECONDS:
        if len(_told) >= _MAX_SUBJECTS:
            _told.clear()
        _told[subject] = now
        with contextlib.suppress(Exception):  # what a program has logging do may fail
            log.warning("%s", message)


def report(doing: str, error: BaseException) -> None:
    """Tell of an error of ours. Raises it in tests that asked for that."""
    if _strict():
        raise error
    tell(doing, f"{doing} failed and was given up; the program is not affected: {type(error).__name__}: {error}")
    log.debug("%s", doing, exc_info=error)


def guarded(instead: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Gives `instead` where the function would have raised."""

    def guard(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                report(function.__qualname__, error)
                return instead

        return wrapper

    return guard


def _strict() -> bool:
    return "PYTEST_CURRENT_TEST" in os.environ and bool(os.environ.get("LODESTREAM_STRICT"))
