"""Waiting without sleeping blindly: a condition is asked again until it holds or the deadline has passed."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def until(condition: Callable[[], Awaitable[T]], *, deadline: float = ..., what: str = ...) -> T: ...
@overload
async def until(condition: Callable[[], T], *, deadline: float = ..., what: str = ...) -> T: ...
async def until(condition: Callable[[], Any], *, deadline: float = 15.0, what: str = "") -> Any:
    """What the condition (a function or a coroutine function) gives as soon as that is truthy.

    Fails the test after `deadline` seconds, telling `what` was awaited and what was last seen.
    """
    end = time.monotonic() + deadline
    pause = 0.01
    while True:
        seen = condition()
        if inspect.isawaitable(seen):
            seen = await seen
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"{what or _source(condition)}: not within {deadline} s, last seen {seen!r}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def _source(condition: Callable[[], Any]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
