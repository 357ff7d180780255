"""What goes wrong in here stays in here: it is told by logging, once a minute, and never reaches the host.

In tests that set LODESTREAM_STRICT it is raised instead.
"""

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lodestream_evals.rate_limited_log import end_quiet, is_quiet, log, warn_once

__all__ = [
    "log",
    "log_dropped",
    "log_to_stderr",
    "never_raises",
    "report_internal_error",
    "warn_dropped",
    "warn_once",
]

_dropped_since_logged: dict[str, tuple[int, str]] = {}
"""How much was dropped since that was last logged, and why, by reason."""
_counting = threading.RLock()
P = ParamSpec("P")
R = TypeVar("R")


def log_to_stderr() -> None:
    """All that is done, for LODESTREAM_DEBUG."""
    log.setLevel(logging.DEBUG)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        log.addHandler(handler)


def warn_dropped(reason: str, count: int, why: str) -> None:
    """Warn that observations were dropped: at once, then once a minute for each reason, with how many it has been."""
    if sys.is_finalizing():
        return
    with _counting:
        _dropped_since_logged[reason] = (_dropped_since_logged.get(reason, (0, ""))[0] + count, why)
    _log_dropped(reason)


def log_dropped(*, all_now: bool = False) -> None:
    """Warn of what was dropped since it was last logged, for each reason if a minute has passed or `all_now`."""
    for reason in list(_dropped_since_logged):
        if all_now:
            end_quiet(f"dropped {reason}")
        _log_dropped(reason)


def _log_dropped(reason: str) -> None:
    if sys.is_finalizing() or is_quiet(f"dropped {reason}"):
        return
    with _counting:
        count, why = _dropped_since_logged.pop(reason, (0, ""))
    if count:
        warn_once(f"dropped {reason}", f"{count} observations or scores were dropped: {why}")


def report_internal_error(doing: str, error: BaseException) -> None:
    """Tell of an error of ours. Raises it in tests that asked for that."""
    if _strict():
        raise error
    warn_once(doing, f"{doing} failed and was given up; the program is not affected: {type(error).__name__}: {error}")
    log.debug("%s", doing, exc_info=error)


def never_raises(instead: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Gives `instead` where the function would have raised."""

    def guard(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                report_internal_error(function.__qualname__, error)
                return instead

        return wrapper

    return guard


def _renew_lock() -> None:
    """In the child of a fork: whoever held it is not in this process."""
    global _counting  # noqa: PLW0603 - one process, one state
    _counting = threading.RLock()
    _dropped_since_logged.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _strict() -> bool:
    return "PYTEST_CURRENT_TEST" in os.environ and bool(os.environ.get("LODESTREAM_STRICT"))
