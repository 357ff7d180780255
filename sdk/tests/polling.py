"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], *, deadline: float = 15.0, what: str = "") -> T:
    """What the condition gives as soon as that is truthy; fails the test after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (seen := condition()):
        assert time.monotonic() < end, f"{what or condition}: not within {deadline} s, last seen {seen!r}"
        time.sleep(0.005)
    return seen
