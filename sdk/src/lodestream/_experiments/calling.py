"""Calling functions of users: coroutines in the loop, the others in threads, each within its time."""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from lodestream._experiments.binding import Bound
from lodestream._lifecycle import start_thread

T = TypeVar("T")


class OvertimeError(TimeoutError):
    """A function took longer than it may."""


async def call(bound: Bound, known: Mapping[str, Any], *, timeout: float | None) -> Any:
    """What the function returns. Whatever it raises is raised, as an Exception: nothing of it ends the program.

    A thread can't be stopped: what a function does there beyond its time is not looked at.
    """
    positional, named = bound.arguments(known)
    run = partial(bound.function, *positional, **named)
    try:
        async with asyncio.timeout(timeout) as scope:
            returned = run() if bound.is_async else await in_thread(run)
            return await returned if inspect.isawaitable(returned) else returned
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        raise RuntimeError("it was cancelled") from error
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    except TimeoutError:
        if scope.expired():
            raise OvertimeError(f"not done within {timeout:g} s") from None
        raise


def in_thread(function: Callable[[], T]) -> "asyncio.Future[T]":
    """In a thread of its own, that a program does not wait for at its end, and in the caller's context."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)

    def run() -> None:
        try:
            done, told = future.set_result, context.run(function)
        except StopIteration as error:  # which a future does not take
            done, told = future.set_exception, RuntimeError(f"StopIteration: {error}")  # type: ignore[assignment]
        except BaseException as error:
            done, told = future.set_exception, error  # type: ignore[assignment]
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, done, told)

    start_thread(threading.Thread(target=run, name="lodestream-experiment", daemon=True))
    return future
