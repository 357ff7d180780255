"""The logger of programs' own process, on which each subject is warned of once a minute."""

import contextlib
import logging
import sys
import time

log = logging.getLogger("lodestream")

_QUIET_SECONDS = 60.0
_MAX_SUBJECTS = 1_000
_warned_at: dict[str, float] = {}


def warn_once(subject: str, message: str) -> None:
    """Log a warning, unless one of the same subject was logged within the last minute."""
    if sys.is_finalizing():  # a daemon thread that is gone may hold the lock of a handler for ever
        return
    if not is_quiet(subject):
        if len(_warned_at) >= _MAX_SUBJECTS:
            _warned_at.clear()
        _warned_at[subject] = time.monotonic()
        with contextlib.suppress(Exception):  # what a program has logging do may fail
            log.warning("%s", message)


def is_quiet(subject: str) -> bool:
    """Whether a warning of a subject was logged within the last minute."""
    last = _warned_at.get(subject)
    return last is not None and time.monotonic() - last < _QUIET_SECONDS


def end_quiet(subject: str) -> None:
    """Have the next warning of a subject be logged, however soon it comes."""
    _warned_at.pop(subject, None)
