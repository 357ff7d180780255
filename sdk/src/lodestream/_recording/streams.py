"""What yields or comes later: the observation is current while it runs, not in between, and ends when it ends."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach

from lodestream._diagnostics import guarded
from lodestream._recording.fields import OUTPUT
from lodestream._recording.span import Observation
from lodestream._recording.yielded import Yielded

Finish = Callable[[Any], Any]
"""Ends the observation with what was returned, and gives what the caller is to have."""


class Stream:
    """An observation of something that runs in steps. Dropped before its end, it ends."""

    def __init__(
        self, observation: Observation, captures: bool, to_text: Callable[[list[Any]], Any] | None = None
    ) -> None:
        self._observation = observation
        self._context = trace.set_span_in_context(observation)
        self._variable: ContextVar[Context] | None = None
        self._yielded = Yielded(to_text) if captures else None

    def enter(self) -> Token[Context]:
        """Make current what was so when the last step ended."""
        if self._variable is not None:
            return self._variable.set(self._context)
        token = attach(self._context)
        self._variable = token.var
        return token

    def leave(self, entered: Token[Context]) -> None:
        """A step has ended; what it has left open (`with` around a `yield`) is current in the next one."""
        variable = entered.var
        self._context = variable.get()
        try:  # noqa: SIM105 - suppressing costs more, at each step
            variable.reset(entered)
        except ValueError:  # it is being collected, in the context of something else
            pass

    @guarded(None)
    def add(self, item: Any) -> None:
        """It yielded this."""
        if self._yielded is not None:
            self._yielded.add(item)

    @guarded(None)
    def end(self, error: BaseException | None = None) -> None:
        """The first call counts."""
        observation = self._observation
        if not observation.is_recording():
            return
        if self._yielded is not None:
            if (encoded := self._yielded.encoded()) is not None and not observation.is_masked:
                observation.put(OUTPUT, encoded)
            else:
                observation.update(output=self._yielded.output())
        if error is not None:
            observation.fail(error)
        observation.end()

    def __del__(self) -> None:
        self.end()


def steps_of(generator: Generator[Any, Any, Any], stream: Stream) -> Generator[Any, Any, Any]:
    """A generator that does what the given one does, each step with the observation current."""
    step: Callable[[Any], Any] = generator.send
    given: Any = None
    while True:
        entered = stream.enter()
        try:
            item = step(given)
        except StopIteration as stop:
            stream.end()
            return stop.value
        except BaseException as error:
            stream.end(error)
            raise
        finally:
            stream.leave(entered)
        stream.add(item)
        try:
            step, given = generator.send, (yield item)
        except GeneratorExit:
            entered = stream.enter()
            try:
                generator.close()
            except BaseException as error:
                stream.end(error)
                raise
            finally:
                stream.leave(entered)
            stream.end()
            raise
        except BaseException as error:
            step, given = generator.throw, error


def async_steps(
    opened: Callable[..., tuple[AsyncGenerator[Any, Any], Stream | None]],
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """An asynchronous generator function that does what the opened generator does, likewise."""

    async def steps(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator, stream = opened(*args, **kwargs)
        step: Callable[[Any], Awaitable[Any]] = generator.asend
        given: Any = None
        while True:
            entered = stream.enter() if stream is not None else None
            try:
                item = await step(given)
            except StopAsyncIteration:
                if stream is not None:
                    stream.end()
                return
            except BaseException as error:
                if stream is not None:
                    stream.end(error)
                raise
            finally:
                if stream is not None and entered is not None:
                    stream.leave(entered)
            if stream is not None:
                stream.add(item)
            try:
                step, given = generator.asend, (yield item)
            except GeneratorExit:
                await _close(generator, stream)
                raise
            except BaseException as error:
                step, given = generator.athrow, error

    return steps


async def iterated(iterator: AsyncIterator[Any], stream: Stream) -> AsyncGenerator[Any, None]:
    """What an asynchronous iterator gives, each step with the observation current."""
    while True:
        entered = stream.enter()
        try:
            item = await anext(iterator)
        except StopAsyncIteration:
            stream.end()
            return
        except BaseException as error:
            stream.end(error)
            raise
        finally:
            stream.leave(entered)
        stream.add(item)
        try:
            yield item
        except GeneratorExit:
            await _close(iterator, stream)
            raise


async def awaited(awaitable: Awaitable[Any], stream: Stream, finish: Finish) -> Any:
    """What comes of an awaitable, with the observation current."""
    entered = stream.enter()
    try:
        result = await awaitable
    except BaseException as error:
        stream.end(error)
        raise
    finally:
        stream.leave(entered)
    return finish(result)


def asyncio_future(value: Any) -> bool:
    """Whether it is a future or a task, as `asyncio.isfuture` has it, without importing asyncio."""
    return getattr(type(value), "_asyncio_future_blocking", None) is not None


def streamed_body(value: Any) -> Any:
    """The body of a streaming response of Starlette's (so of FastAPI's); None for anything else."""
    kind = getattr(sys.modules.get("starlette.responses"), "Response", None)
    if kind is None or not isinstance(value, kind):
        return None
    body = getattr(value, "body_iterator", None)
    return body if hasattr(body, "__anext__") else None


async def _close(iterator: Any, stream: Stream | None) -> None:
    """Close what is given up, so that its clean-up is part of the observation."""
    entered = stream.enter() if stream is not None else None
    try:
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()
    except BaseException as error:
        if stream is not None:
            stream.end(error)
        raise
    finally:
        if stream is not None and entered is not None:
            stream.leave(entered)
    if stream is not None:
        stream.end()
