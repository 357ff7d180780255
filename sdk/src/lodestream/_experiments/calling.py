"""Functions of users: called with what they ask for by the names of their parameters, each within its time."""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from lodestream._lifecycle import start_thread

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class BoundFunction:
    """A function, and which of the things that are known it is given."""

    function: Callable[..., Any]
    positional: tuple[str, ...]
    by_name: tuple[str, ...]
    takes_all: bool

    @property
    def is_async(self) -> bool:
        """Whether calling it gives something to be awaited, as far as can be told before."""
        called = getattr(type(self.function), "__call__", None)  # noqa: B004 - of the class, as Python calls it
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(called)

    def arguments(self, known: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """For one call."""
        named = {name: known[name] for name in self.by_name}
        if self.takes_all:
            named = {**{name: value for name, value in known.items() if name not in self.positional}, **named}
        return [known[name] for name in self.positional], named


def bind(function: Callable[..., Any], known: Collection[str], *, alone: str, what: str) -> BoundFunction:
    """How to call it. One parameter that has a name of its own gets `alone`.

    Raises TypeError when it asks for what there is not.
    """
    if not callable(function):
        raise TypeError(f"{what} is {function!r:.100}, which can't be called")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some that are written in C
        return BoundFunction(function, (alone,), (), takes_all=False)
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    needed = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    strange = [each for each in needed if each.name not in known and each.default is each.empty]
    first: tuple[str, ...] = ()
    rest = needed
    if len(strange) == 1 and strange[0] is needed[0] and strange[0].kind is not strange[0].KEYWORD_ONLY:
        first, rest = (alone,), needed[1:]
    elif strange:
        names = ", ".join(each.name for each in strange)
        raise TypeError(f"{what} asks for {names}; it can be given {', '.join(known)}")
    positional = tuple(each.name for each in rest if each.kind is each.POSITIONAL_ONLY and each.name in known)
    by_name = tuple(each.name for each in rest if each.kind in _BY_NAME and each.name in known)
    return BoundFunction(function, (*first, *positional), by_name, takes_all=takes_all)


T = TypeVar("T")


class OvertimeError(TimeoutError):
    """A function took longer than it may."""


async def call(bound: BoundFunction, known: Mapping[str, Any], *, timeout: float | None) -> Any:
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
            settle_with, value = future.set_result, context.run(function)
        except StopIteration as error:  # which a future does not take
            settle_with, value = future.set_exception, RuntimeError(f"StopIteration: {error}")  # type: ignore[assignment]
        except BaseException as error:
            settle_with, value = future.set_exception, error  # type: ignore[assignment]
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, settle_with, value)

    start_thread(threading.Thread(target=run, name="lodestream-experiment", daemon=True))
    return future
